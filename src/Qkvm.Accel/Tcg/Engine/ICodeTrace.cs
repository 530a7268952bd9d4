namespace Qkvm.Accel.Tcg;

/// <summary>Hears of code: -d in_asm, op, out_asm, exec, cpu, and -perfmap. Called on the vCPU's thread.</summary>
public interface ICodeTrace
{
    /// <summary>Hears of each instruction, too; nothing is translated then.</summary>
    bool WantsSteps { get; }

    /// <summary>Guest code met for the first time, or again after it has changed.</summary>
    /// <param name="bits">16, 32 or 64.</param>
    void Decoded(ulong rip, int bits, ReadOnlySpan<byte> code);

    /// <summary>What it became.</summary>
    /// <param name="operations">Text: how each instruction is treated.</param>
    /// <param name="address">Of the host's code.</param>
    void Translated(ulong rip, Func<string> operations, ulong address, ReadOnlySpan<byte> code);

    /// <summary>An instruction is about to run.</summary>
    void Step(Cpu cpu);
}
