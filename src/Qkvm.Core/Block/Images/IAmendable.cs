using Qkvm.Core.Configuration;

namespace Qkvm.Core.Block.Images;

/// <summary>A driver that can change what an image was made with; its model declares the options.</summary>
public interface IAmendable
{
    ValueTask AmendAsync(Amendment amendment);
}

/// <summary>What to change of an image.</summary>
/// <param name="Options">Checked; what the user did not give has no value.</param>
/// <param name="IsForced">Also what loses the data for good, as erasing the last key does.</param>
/// <param name="Secret">What the secret with that id holds.</param>
/// <param name="Progress">Takes the part that is done, 0 to 1.</param>
public sealed record Amendment(Properties Options, bool IsForced, Func<string, byte[]> Secret, Action<double> Progress);
