using System.Text;
using Iced.Intel;
using Qkvm.Core.Accel;
using Decoder = Iced.Intel.Decoder;

namespace Qkvm.Control.Commands;

/// <summary>x/i: instructions as the current vCPU's mode reads them, in AT&amp;T's notation.</summary>
static class Disassembly
{
    const int LongestInstruction = 15, BytesShown = 8;

    public delegate bool Reader(ulong address, out byte value);

    public static string Of(CommandContext context, ulong at, int count, Reader read)
    {
        int bits = 64;
        IVCpu cpu = context.Cpu;
        context.Machine.WhileStill(() =>
        {
            CpuRegisters registers = cpu.ReadRegisters();
            bool isBig = (registers.Segments[CpuRegisters.Cs].Access & SegmentRegister.Big) != 0;
            bits = registers.Is64Bit ? 64 : isBig ? 32 : 16;
        });
        var text = new StringBuilder();
        var formatter = new GasFormatter();
        var line = new StringOutput();
        for (int i = 0; i < count; i++)
        {
            byte[] code = Take(at, read);
            if (code.Length == 0) return text.Append("Cannot access memory\n").ToString();
            var decoder = Decoder.Create(bits, new ByteArrayCodeReader(code), at);
            decoder.Decode(out Instruction instruction);
            int length = Math.Max(1, Math.Min(instruction.Length, code.Length));
            formatter.Format(instruction, line);
            string bytes = string.Join(' ', code.Take(length).Select(b => $"{b:x2}"));
            text.Append($"0x{at:x8}:  {bytes.PadRight(3 * BytesShown)} {line.ToStringAndReset()}\n");
            at += (ulong)length;
        }
        return text.ToString();
    }

    static byte[] Take(ulong at, Reader read)
    {
        var code = new List<byte>(LongestInstruction);
        while (code.Count < LongestInstruction && read(at + (ulong)code.Count, out byte value)) code.Add(value);
        return [.. code];
    }
}
