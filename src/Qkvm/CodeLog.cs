using System.Text;
using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using Qkvm.Core.Logging;
using Decoder = Iced.Intel.Decoder;

namespace Qkvm;

/// <summary>-d in_asm, op, out_asm, exec and cpu, in QEMU's shape; and a symbol for each translated block where Linux
/// perf looks for it (tools/perf/Documentation/jit-interface.txt).</summary>
sealed class CodeLog(MachineLog log, TextWriter? map) : ICodeTrace
{
    const int HostBits = 64, BytesShown = 8;

    public bool WantsSteps => log.Has(LogItem.Exec | LogItem.Cpu);

    public void Decoded(ulong rip, int bits, ReadOnlySpan<byte> code)
    {
        if (Wants(LogItem.InAsm, rip)) log.Write($"----------------\nIN: \n{Disassembly(rip, bits, code)}\n");
    }

    public void Translated(ulong rip, Func<string> operations, ulong address, ReadOnlySpan<byte> code)
    {
        if (Wants(LogItem.Op, rip)) log.Write($"OP:\n ---- {rip:x16}\n{operations()}\n");
        if (Wants(LogItem.OutAsm, rip))
            log.Write($"OUT: [size={code.Length}]\n  -- guest addr 0x{rip:x16}\n"
                + $"{Disassembly(address, HostBits, code)}\n");
        if (map == null) return;
        lock (map) map.Write($"{address:x} {code.Length:x} guest_{rip:x}\n");
    }

    public void Step(Cpu cpu)
    {
        if (Wants(LogItem.Exec, cpu.Rip)) log.Write($"Trace {cpu.Index}: {cpu.Where}\n");
        if (Wants(LogItem.Cpu, cpu.Rip)) log.Write(cpu.ReadRegisters().Dump(log.Has(LogItem.Fpu)));
    }

    bool Wants(LogItem item, ulong rip) => log.Has(item) && log.Filter?.Contains(rip) != false;

    static string Disassembly(ulong at, int bits, ReadOnlySpan<byte> code)
    {
        var decoder = Decoder.Create(bits, new ByteArrayCodeReader(code.ToArray()));
        decoder.IP = at;
        var formatter = new GasFormatter();
        var line = new StringOutput();
        var text = new StringBuilder();
        for (int i = 0; i < code.Length;)
        {
            decoder.Decode(out Instruction instruction);
            formatter.Format(instruction, line);
            string bytes = string.Join(' ', code.Slice(i, instruction.Length).ToArray().Select(b => $"{b:x2}"));
            text.Append($"0x{instruction.IP:x8}:  {bytes.PadRight(3 * BytesShown)} {line.ToStringAndReset()}\n");
            i += instruction.Length;
        }
        return text.ToString();
    }
}
