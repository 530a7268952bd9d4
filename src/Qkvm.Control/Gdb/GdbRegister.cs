using Qkvm.Core.Accel;

namespace Qkvm.Control.Gdb;

/// <summary>A register as GDB sees it.</summary>
/// <param name="Type">Of the target description: "int64", "x64_eflags" …</param>
/// <param name="Feature">Under which GDB looks for it.</param>
/// <param name="Get">Little endian, as many bytes as <paramref name="Bits"/> say.</param>
/// <param name="Set">False: it cannot be so.</param>
sealed record GdbRegister(string Name, int Bits, string Type, string Feature, Action<CpuRegisters, Span<byte>> Get,
    Func<CpuRegisters, byte[], bool> Set)
{
    public int Size => Bits / 8;

    /// <summary>"float" or "vector", where `info registers` leaves it out.</summary>
    public string? Group { get; init; }
}
