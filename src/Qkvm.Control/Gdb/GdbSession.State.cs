using System.Text;
using Qkvm.Core.Accel;
using Qkvm.Core.State;

namespace Qkvm.Control.Gdb;

public sealed partial class GdbSession
{
    /// <summary>The vCPU whose registers and translation the debugger looks at (Hg), and that which c and s are
    /// about (Hc).</summary>
    IVCpu _looksAt, _steps;

    /// <summary>Of the vCPU looked at, until it moves.</summary>
    CpuRegisters? _registers;

    CpuRegisters Registers => _registers ??= _looksAt.ReadRegisters();

    void ReadRegisters() => Reply(GdbProtocol.Hex(GdbRegisters.ReadAll(Registers)));

    void WriteRegisters(string hex) => Reply(GdbProtocol.Bytes(hex) is { } data
        && TryChange(_looksAt, r => GdbRegisters.WriteAll(r, data)) ? GdbProtocol.Ok : GdbProtocol.Invalid);

    void ReadRegister(string number)
    {
        if (!TryRegister(number, out GdbRegister? register)) { Reply(GdbProtocol.NoSuchMemory); return; }
        Span<byte> data = stackalloc byte[register!.Size];
        register.Get(Registers, data);
        Reply(GdbProtocol.Hex(data));
    }

    /// <summary>n=hex; what is missing at the end is zero.</summary>
    void WriteRegister(string text)
    {
        string[] parts = text.Split('=', 2);
        if (parts.Length < 2 || GdbProtocol.Bytes(parts[1]) is not { } given
            || !TryRegister(parts[0], out GdbRegister? register) || given.Length > register!.Size)
        {
            Reply(GdbProtocol.Invalid);
            return;
        }
        var data = new byte[register.Size];
        given.CopyTo(data, 0);
        Reply(TryChange(_looksAt, r => register.Set(r, data)) ? GdbProtocol.Ok : GdbProtocol.Invalid);
    }

    static bool TryRegister(string number, out GdbRegister? register)
    {
        bool exists = GdbProtocol.TryNumber(number, out ulong index) && index < (ulong)GdbRegisters.All.Length;
        register = exists ? GdbRegisters.All[index] : null;
        return exists;
    }

    /// <summary>False: no processor can be so, or not by a debugger's hand.</summary>
    bool TryChange(IVCpu cpu, Func<CpuRegisters, bool> change)
    {
        _registers = null;
        CpuRegisters changed = cpu.ReadRegisters();
        if (!change(changed)) return false;
        try { cpu.WriteRegisters(changed); }
        catch (InvalidStateException) { return false; }
        return true;
    }

    void ReadMemory(string text)
    {
        if (!GdbProtocol.TryPair(text, ',', out ulong at, out ulong length) || length > GdbProtocol.PacketSize / 2)
        {
            Reply(GdbProtocol.Invalid);
            return;
        }
        var data = new byte[length];
        Reply(DebugMemory.TryRead(_machine, Translating, Linear(at), data) ? GdbProtocol.Hex(data)
            : GdbProtocol.NoSuchMemory);
    }

    void WriteMemory(string text)
    {
        string[] parts = text.Split(':', 2);
        if (parts.Length == 2 && GdbProtocol.Bytes(parts[1]) is { } data) Write(parts[0], data);
        else Reply(GdbProtocol.Invalid);
    }

    void WriteBinary(ReadOnlySpan<byte> packet)
    {
        int colon = packet.IndexOf((byte)':');
        if (colon < 0) Reply(GdbProtocol.Invalid);
        else Write(Encoding.Latin1.GetString(packet[..colon]), packet[(colon + 1)..]);
    }

    void Write(string where, ReadOnlySpan<byte> data)
    {
        if (!GdbProtocol.TryPair(where, ',', out ulong at, out ulong length) || length != (ulong)data.Length)
            Reply(GdbProtocol.Invalid);
        else Reply(DebugMemory.TryWrite(_machine, Translating, Linear(at), data) ? GdbProtocol.Ok
            : GdbProtocol.NoSuchMemory);
    }

    IVCpu? Translating => _isPhysical ? null : _looksAt;

    /// <summary>Linear addresses have 32 bits outside IA-32e mode.</summary>
    ulong Linear(ulong at) => _isPhysical || Registers.IsLongMode ? at : (uint)at;
}
