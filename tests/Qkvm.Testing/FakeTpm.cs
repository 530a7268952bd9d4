using Qkvm.Core.Tpm;

namespace Qkvm.Testing;

/// <summary>Answers when the test says so, or fails at once.</summary>
public sealed class FakeTpm(TpmVersion version = TpmVersion.V20) : ITpm
{
    Action<ReadOnlyMemory<byte>>? _answered;

    public string Id => "t";
    public string Type => "emulator";
    public string Chardev => "c";
    public TpmVersion Version => version;
    public bool IsEstablished { get; set; }

    public bool FailsAtOnce { get; init; }

    public List<string> Heard { get; } = [];

    public void Start(int bufferSize) => Heard.Add($"start {bufferSize}");

    public void Execute(byte locality, ReadOnlySpan<byte> command, Action<ReadOnlyMemory<byte>> answered)
    {
        Heard.Add($"{locality}: {Convert.ToHexString(command)}");
        _answered = answered;
        if (FailsAtOnce) answered(TpmCommand.Failure(version));
    }

    public void Answer(byte[] answer) => _answered!(answer);
    public void Cancel() => Heard.Add("cancel");
    public void ResetEstablished(byte locality) => Heard.Add($"forget {locality}");
}
