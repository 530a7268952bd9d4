namespace Qkvm.Core.Tpm;

/// <summary>What a TPM's commands are of: TPM Main Specification 1.2, or TPM Library Specification 2.0.</summary>
public enum TpmVersion { V12, V20 }

/// <summary>The host side of a TPM, as -tpmdev names it: a program that executes its commands. Under the machine lock;
/// nothing waits.</summary>
public interface ITpm
{
    string Id { get; }

    /// <summary>Of -tpmdev: "emulator".</summary>
    string Type { get; }

    /// <summary>By which the program is reached.</summary>
    string Chardev { get; }

    TpmVersion Version { get; }

    /// <summary>A dynamic launch has been measured since the TPM was powered up.</summary>
    bool IsEstablished { get; }

    /// <summary>Powers it up, or up again; a command in flight is lost, and its answer never comes.</summary>
    /// <param name="bufferSize">Bytes of the longest command and answer.</param>
    void Start(int bufferSize);

    /// <summary>Executes a command, after all before it; the answer comes later, under the machine lock, and is not
    /// kept. What cannot be executed is answered as a TPM that has failed does.</summary>
    /// <param name="locality">0 to 4.</param>
    void Execute(byte locality, ReadOnlySpan<byte> command, Action<ReadOnlyMemory<byte>> answered);

    /// <summary>Asks it to end the command in flight, which is answered all the same.</summary>
    void Cancel();

    /// <summary>Forgets the dynamic launch.</summary>
    /// <param name="locality">Who asks: 3 or 4, or the TPM refuses.</param>
    void ResetEstablished(byte locality);
}
