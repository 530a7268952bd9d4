using Qkvm.Core.State;

namespace Qkvm.Hw.Net;

/// <summary>Registers of a PHY behind MDIC. IEEE 802.3, clause 22; Intel 317453, sections 13.4.9 and
/// 13.5.1.</summary>
/// <param name="Reset">By number, those that are not zero.</param>
/// <param name="Writable">Registers that a driver may write.</param>
sealed record PhyModel((int Register, ushort Value)[] Reset, int[] Writable);

sealed class E1000Phy
{
    // Registers
    public const int Control = 0, Status = 1, PartnerAbility = 5, Specific = 17;

    // Control
    public const ushort SoftReset = 0x8000, LoopBack = 0x4000, Negotiate = 0x1000, Restart = 0x0200;

    const ushort LinkStatus = 0x0004, NegotiationDone = 0x0020;    // Status
    const ushort SpecificLink = 0x0400;
    const ushort Acknowledge = 0x4000;                             // PartnerAbility

    // MDIC
    const uint Read = 2u << 26, Write = 1u << 26, Opcode = 3u << 26, Ready = 1u << 28, Error = 1u << 30;
    const int Address = 1, Count = 32;

    readonly PhyModel _model;
    readonly ushort[] _registers = new ushort[Count];

    public E1000Phy(PhyModel model)
    {
        _model = model;
        Reset();
    }

    public bool IsLoopedBack => (_registers[Control] & LoopBack) != 0;

    public void Reset()
    {
        Array.Clear(_registers);
        foreach (var (register, value) in _model.Reset) _registers[register] = value;
    }

    /// <summary>Shows a link, or none.</summary>
    public void SetLink(bool isUp)
    {
        Set(Status, LinkStatus | NegotiationDone, isUp);
        Set(PartnerAbility, Acknowledge, isUp);
        Set(Specific, SpecificLink, isUp);
    }

    /// <summary>Runs a command of MDIC, and returns what MDIC then reads.</summary>
    /// <param name="command">What was written to MDIC.</param>
    /// <param name="written">The register that has been written, or -1.</param>
    public uint Execute(uint command, out int written)
    {
        written = -1;
        int register = (int)(command >> 16 & 31);
        if ((command >> 21 & 31) != Address || (command & Opcode) is not (Read or Write))
            return command & 0x0FFF_0000 | Ready | Error;
        if ((command & Opcode) == Read) return command & 0x0FFF_0000 | _registers[register] | Ready;
        if (Array.IndexOf(_model.Writable, register) < 0) return command & 0x0FFF_FFFF | Ready;
        _registers[register] = (ushort)command;
        if (register == Control)
        {
            if ((command & SoftReset) != 0)
            {
                bool isUp = (_registers[Status] & LinkStatus) != 0;
                Reset();
                SetLink(isUp);
            }
            _registers[Control] &= unchecked((ushort)~(SoftReset | Restart));
        }
        written = register;
        return command & 0x0FFF_FFFF | Ready;
    }

    public void Exchange(StateStream state)
    {
        for (int i = 0; i < Count; i++) state.Group("phy", i).Field("value", ref _registers[i]);
    }

    void Set(int register, int bits, bool isOn)
    {
        if (isOn) _registers[register] |= (ushort)bits;
        else _registers[register] &= (ushort)~bits;
    }
}
