using System.Text;
using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using Decoder = Iced.Intel.Decoder;

namespace Qkvm;

/// <summary>-d in_asm, op, out_asm, exec and cpu, in QEMU's shape; and a symbol for each translated block where Linux
/// perf looks for it (tools/perf/Documentation/jit-interface.txt).</summary>
sealed class CodeLog(TextWriter output, IReadOnlyList<string> items, TextWriter? map) : ICodeTrace
{
    public static readonly string[] Items = ["in_asm", "op", "out_asm", "exec", "cpu"];

    const int HostBits = 64, BytesShown = 8;
    readonly bool _in = items.Contains("in_asm"), _operations = items.Contains("op"), _out = items.Contains("out_asm");
    readonly bool _exec = items.Contains("exec"), _cpu = items.Contains("cpu");

    public bool WantsSteps => _exec || _cpu;

    public void Decoded(ulong rip, int bits, ReadOnlySpan<byte> code)
    {
        if (_in) Write($"----------------\nIN: \n{Disassembly(rip, bits, code)}\n");
    }

    public void Translated(ulong rip, Func<string> operations, ulong address, ReadOnlySpan<byte> code)
    {
        if (_operations) Write($"OP:\n ---- {rip:x16}\n{operations()}\n");
        if (_out)
            Write($"OUT: [size={code.Length}]\n  -- guest addr 0x{rip:x16}\n{Disassembly(address, HostBits, code)}\n");
        if (map == null) return;
        lock (map) map.Write($"{address:x} {code.Length:x} guest_{rip:x}\n");
    }

    public void Step(Cpu cpu)
    {
        if (_exec) Write($"Trace {cpu.Index}: {cpu.Where}\n");
        if (_cpu) Write(cpu.ReadRegisters().Dump());
    }

    void Write(string text)
    {
        lock (output) output.Write(text);
    }

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
