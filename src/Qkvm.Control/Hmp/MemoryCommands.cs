using System.Text;
using Qkvm.Core.Accel;

namespace Qkvm.Control.Hmp;

/// <summary>Commands that read and write memory and ports.</summary>
static class MemoryCommands
{
    const int MaxBytes = 1 << 20;

    public static readonly MonitorCommand[] All =
    [
        new("x", "/fmt addr", "virtual memory dump starting at 'addr'", (m, a) => Dump(m, a, isVirtual: true)),
        new("xp", "/fmt addr", "physical memory dump starting at 'addr'", (m, a) => Dump(m, a, isVirtual: false)),
        new("print|p", "/fmt expr", "print expression value (use $pc for the instruction pointer)", (m, a) =>
        {
            (_, char form, _) = ParseFormat(a.Format() ?? "d", 'd');
            m.Write(Text(a.Address("expr", m.Cpu), form, 8).TrimStart() + "\n");
        }),
        new("i", "/fmt addr", "I/O port read", (m, a) =>
        {
            (_, char form, int size) = ParseFormat(a.Format() ?? "xb", 'x');
            ulong port = a.Number("addr") & 0xFFFF;
            m.Write($"port{"bwl "[size == 1 ? 0 : size == 2 ? 1 : 2]}[0x{port:x4}] = {Text(m.Machine.Board.Ports.Read(port, Math.Min(size, 4)), form, Math.Min(size, 4)).Trim()}\n");
        }),
        new("o", "/fmt addr value", "I/O port write", (m, a) =>
        {
            (_, _, int size) = ParseFormat(a.Format() ?? "xb", 'x');
            ulong port = a.Number("addr") & 0xFFFF;
            m.Machine.Board.Ports.Write(port, Math.Min(size, 4), a.Number("value"));
        }),
        new("sum", "addr size", "compute the checksum of a memory region", (m, a) =>
        {
            ulong at = a.Number("addr"), size = a.Number("size");
            ushort sum = 0;
            for (ulong i = 0; i < size && i < 1UL << 30; i++)
                sum = (ushort)((sum >> 1 | sum << 15) + (byte)m.Machine.Board.Memory.Read(at + i, 1));
            m.Write($"{sum:D5}\n");
        }),
        new("pmemsave", "addr size file", "save to disk physical memory dump starting at 'addr' of size 'size'", (m, a) => Save(m, a, isVirtual: false)),
        new("memsave", "addr size file", "save to disk virtual memory dump starting at 'addr' of size 'size'", (m, a) => Save(m, a, isVirtual: true)),
        new("gva2gpa", "addr", "print the guest physical address corresponding to a guest virtual address", (m, a) =>
            m.Write(m.Cpu.TryTranslate(a.Address("addr", m.Cpu), out ulong physical) ? $"gpa: 0x{physical:x}\n" : "Unmapped\n")),
    ];

    /// <summary>"4xw": count, format letter, size letter (b h w g).</summary>
    static (int Count, char Form, int Size) ParseFormat(string format, char defaultForm)
    {
        int digits = format.TakeWhile(char.IsAsciiDigit).Count();
        int count = digits > 0 && int.TryParse(format.AsSpan(0, digits), out int n) ? n : 1;
        char form = defaultForm;
        int size = 4;
        foreach (char c in format.AsSpan(digits))
            switch (c)
            {
                case 'x' or 'd' or 'u' or 'o' or 'c': form = c; if (c == 'c') size = 1; break;
                case 'b': size = 1; break;
                case 'h': size = 2; break;
                case 'w': size = 4; break;
                case 'g' or 'L': size = 8; break;
                case 'i': throw new MonitorException("format 'i' (disassembly) is not built yet");
                default: throw new MonitorException($"invalid char in format: '{c}'");
            }
        if (count < 1 || (long)count * size > MaxBytes) throw new MonitorException($"a dump of {count} items is too large");
        return (count, form, size);
    }

    static void Dump(IMonitor monitor, MonitorArguments arguments, bool isVirtual)
    {
        (int count, char form, int size) = ParseFormat(arguments.Format() ?? "xw", 'x');
        ulong at = arguments.Address("addr", monitor.Cpu);
        int perLine = form == 'c' ? 16 : Math.Max(1, 16 / size);
        if (form is 'd' or 'u' && size == 8) perLine = 2;
        var text = new StringBuilder();
        for (int i = 0; i < count; i++, at += (ulong)size)
        {
            if (i % perLine == 0) text.Append(i > 0 ? "\n" : "").Append(at.ToString("x16")).Append(':');
            if (!TryRead(monitor, at, size, isVirtual, out ulong value))
            {
                text.Append(" Cannot access memory");
                break;
            }
            text.Append(' ').Append(Text(value, form, size));
        }
        monitor.Write(text.Append('\n').ToString());
    }

    static bool TryRead(IMonitor monitor, ulong at, int size, bool isVirtual, out ulong value)
    {
        value = 0;
        for (int i = 0; i < size; i++)
        {
            ulong physical = at + (ulong)i;
            if (isVirtual && !monitor.Cpu.TryTranslate(physical, out physical)) return false;
            value |= monitor.Machine.Board.Memory.Read(physical, 1) << (i * 8);
        }
        return true;
    }

    static string Text(ulong value, char form, int size)
    {
        long signed = size switch { 1 => (sbyte)value, 2 => (short)value, 4 => (int)value, _ => (long)value };
        return form switch
        {
            'd' => signed.ToString(),
            'u' => value.ToString(),
            'o' => "0" + Convert.ToString((long)value, 8),
            'c' => value is >= 32 and < 127 ? $"'{(char)value}'" : $"'\\x{value:x2}'",
            _ => "0x" + value.ToString($"x{size * 2}"),
        };
    }

    static void Save(IMonitor monitor, MonitorArguments arguments, bool isVirtual)
    {
        ulong at = arguments.Address("addr", monitor.Cpu), size = arguments.Number("size");
        string path = arguments.Word("file");
        IVCpu cpu = monitor.Cpu;
        using FileStream file = File.Create(path);
        var page = new byte[4096];
        while (size > 0)
        {
            int count = (int)Math.Min(size, 4096 - (at & 4095));
            ulong physical = at;
            if (isVirtual && !cpu.TryTranslate(at, out physical)) throw new MonitorException($"Invalid addr 0x{at:x16}/size {size} specified");
            monitor.Machine.Board.Memory.Read(physical, page.AsSpan(0, count));
            file.Write(page, 0, count);
            at += (ulong)count;
            size -= (ulong)count;
        }
    }
}
