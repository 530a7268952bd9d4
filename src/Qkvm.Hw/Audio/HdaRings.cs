using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Audio;

/// <summary>Commands to codecs and their responses, each a ring in guest memory. Spec: High Definition Audio 1.0a,
/// sections 3.3.18 to 3.3.30, 4.4.1 and 4.4.2; names are the sheet's.</summary>
sealed class HdaRings(HdaController controller, HdaBus bus)
{
    /// <summary>Offsets that are the rings'.</summary>
    public const int First = 0x40, End = 0x60;

    const int CORBLBASE = 0x40, CORBUBASE = 0x44, CORBWP = 0x48, CORBRP = 0x4A, CORBCTL = 0x4C, CORBSTS = 0x4D,
        CORBSIZE = 0x4E, RIRBLBASE = 0x50, RIRBUBASE = 0x54, RIRBWP = 0x58, RINTCNT = 0x5A, RIRBCTL = 0x5C,
        RIRBSTS = 0x5D, RIRBSIZE = 0x5E;
    const byte CORBRUN = 0x02, CMEIE = 0x01, CMEI = 0x01, RINTCTL = 0x01, RIRBDMAEN = 0x02, RIRBOIC = 0x04,
        RINTFL = 0x01, RIRBOIS = 0x04, PointerReset = 0x80, Entries256 = 0x42, BaseBits = 0x80;
    const int CommandSize = 4, ResponseSize = 8;

    readonly byte[] _bytes = new byte[End - First];

    ref byte this[int offset] => ref _bytes[offset - First];

    public bool WantsInterrupt => (this[CORBSTS] & this[CORBCTL] & CMEIE) != 0
        || (this[RIRBSTS] & this[RIRBCTL] & (RINTCTL | RIRBOIC)) != 0;

    public void Reset()
    {
        Array.Clear(_bytes);
        this[CORBSIZE] = this[RIRBSIZE] = Entries256;
    }

    /// <param name="at">Of a dword.</param>
    public uint Read(int at) => (uint)(this[at] | this[at + 1] << 8 | this[at + 2] << 16 | this[at + 3] << 24);

    public void Write(int offset, byte value)
    {
        switch (offset)
        {
            case CORBLBASE or RIRBLBASE: this[offset] = (byte)(value & BaseBits); break;
            case > CORBLBASE and < CORBWP or > RIRBLBASE and < RIRBWP: this[offset] = value; break;
            case CORBWP or RINTCNT: this[offset] = value; break;
            case CORBRP + 1:
                // section 3.3.21: the bit stays until software takes it back
                this[offset] = (byte)(value & PointerReset);
                if ((value & PointerReset) != 0) this[CORBRP] = 0;
                break;
            case CORBCTL: this[offset] = (byte)(value & (CORBRUN | CMEIE)); break;
            case CORBSTS: this[offset] &= (byte)~(value & CMEI); break;
            case RIRBWP + 1:
                if ((value & PointerReset) != 0) this[RIRBWP] = 0;
                break;
            case RIRBCTL: this[offset] = (byte)(value & (RINTCTL | RIRBDMAEN | RIRBOIC)); break;
            case RIRBSTS:
                this[offset] &= (byte)~(value & (RINTFL | RIRBOIS));
                break;
        }
        Run();
    }

    public void Exchange(StateStream state) => state.Block("registers", _bytes);

    /// <summary>Until the ring of commands is empty, which is within one round: then a response interrupt is due,
    /// whatever RINTCNT says (section 3.3.26).</summary>
    void Run()
    {
        Span<byte> bytes = stackalloc byte[CommandSize];
        while ((this[CORBCTL] & CORBRUN) != 0 && (this[RIRBCTL] & RIRBDMAEN) != 0 && this[CORBRP] != this[CORBWP])
        {
            byte next = (byte)(this[CORBRP] + 1);
            if (!controller.Dma.Read(Base(CORBLBASE) + (ulong)(next * CommandSize), bytes))
            {
                this[CORBSTS] |= CMEI;
                this[CORBCTL] &= unchecked((byte)~CORBRUN);
                return;
            }
            this[CORBRP] = next;
            uint command = BitConverter.ToUInt32(bytes), address = command >> 28;
            if (bus[address] is { } codec) Answer(codec.Execute(command), address);
        }
    }

    void Answer(uint response, uint address)
    {
        this[RIRBWP]++;
        controller.Dma.Write(Base(RIRBLBASE) + (ulong)(this[RIRBWP] * ResponseSize), 8,
            (ulong)address << 32 | response);
        this[RIRBSTS] |= RINTFL;
    }

    ulong Base(int low) => (ulong)Read(low + 4) << 32 | Read(low);
}
