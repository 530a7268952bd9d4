namespace Qkvm.Core.Block.Images;

/// <summary>A driver that can change what an image was made with; its model declares the options.</summary>
public interface IAmendable
{
    /// <param name="options">Checked; what the user did not give has no value.</param>
    /// <param name="progress">Takes the part that is done, 0 to 1.</param>
    ValueTask AmendAsync(Properties options, Action<double> progress);
}
