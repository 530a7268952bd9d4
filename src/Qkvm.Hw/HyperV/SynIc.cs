using System.Buffers.Binary;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Hw.Intc;

namespace Qkvm.Hw.HyperV;

/// <summary>One processor's synthetic interrupt controller: 16 sources, each with a vector of the local APIC and a slot
/// for a message in a page of the guest. Spec: Hypervisor Top Level Functional Specification (TLFS) 6.0b, chapter
/// 11.</summary>
/// <remarks>Nothing signals event flags: SIEFP is kept and its page is not used.</remarks>
public sealed class SynIc(LocalApic apic, AddressSpace memory)
{
    public const int Sources = 16;

    // MSRs, section 11.8
    const uint Control = 0x40000080, Version = 0x40000081, EventFlagsPage = 0x40000082, MessagePage = 0x40000083,
        EndOfMessage = 0x40000084, FirstSource = 0x40000090;
    const ulong Enable = 1, PageMask = 0xFFF, CurrentVersion = 1;

    // SINTx
    const ulong Masked = 1 << 16, AutoEoi = 1 << 17, VectorMask = 0xFF;

    // HV_MESSAGE, section 11.10
    const int SlotSize = 256, SizeAt = 4, FlagsAt = 5, PayloadAt = 16, MostPayload = SlotSize - PayloadAt;
    const byte MessagePending = 1;

    readonly ulong[] _sources = new ulong[Sources];
    ulong _control, _eventFlagsPage, _messagePage;

    /// <summary>Hears that the guest has taken a message where more were waiting.</summary>
    public Action SlotFreed { get; set; } = static () => { };

    public void Reset()
    {
        (_control, _eventFlagsPage, _messagePage) = (0, 0, 0);
        Array.Fill(_sources, Masked);
        FindAutoEoi();
    }

    public void Exchange(StateStream state)
    {
        state.Field("control", ref _control);
        state.Field("event-flags-page", ref _eventFlagsPage);
        state.Field("message-page", ref _messagePage);
        for (int i = 0; i < Sources; i++) state.Group("source", i).Field("value", ref _sources[i]);
        if (state.IsLoading) FindAutoEoi();
    }

    public bool ReadMsr(uint msr, out ulong value)
    {
        switch (msr)
        {
            case Control: value = _control; break;
            case Version: value = CurrentVersion; break;
            case EventFlagsPage: value = _eventFlagsPage; break;
            case MessagePage: value = _messagePage; break;
            case EndOfMessage: value = 0; break;
            case >= FirstSource and < FirstSource + Sources: value = _sources[msr - FirstSource]; break;
            default: value = 0; return false;
        }
        return true;
    }

    public bool WriteMsr(uint msr, ulong value)
    {
        switch (msr)
        {
            case Control: _control = value; break;
            case EventFlagsPage:
                _eventFlagsPage = value;
                Clear(value);
                break;
            case MessagePage:
                _messagePage = value;
                Clear(value);
                break;
            case EndOfMessage: SlotFreed(); break;
            case >= FirstSource and < FirstSource + Sources:
                if ((value & VectorMask) < LocalApic.FirstLegalVector && (value & Masked) == 0) return false;
                _sources[msr - FirstSource] = value;
                FindAutoEoi();
                break;
            default: return false;
        }
        return true;
    }

    /// <summary>Puts a message into a source's slot and interrupts the processor.</summary>
    /// <returns>False: one lies there yet, and is flagged for the guest to say when it has gone.</returns>
    public bool Post(int source, uint type, ReadOnlySpan<byte> payload)
    {
        if ((_control & Enable) == 0 || (_messagePage & Enable) == 0) return true;     // nobody would see it
        ulong slot = (_messagePage & ~PageMask) + (ulong)(source * SlotSize);
        if (memory.Read(slot, 4) != 0)
        {
            memory.Write(slot + FlagsAt, 1, MessagePending);
            return memory.Read(slot, 4) == 0 && Post(source, type, payload);
        }
        Span<byte> message = stackalloc byte[PayloadAt + MostPayload];
        message = message[..(PayloadAt + payload.Length)];
        message.Clear();
        message[SizeAt] = (byte)payload.Length;
        payload.CopyTo(message[PayloadAt..]);
        memory.Write(slot, message);
        BinaryPrimitives.WriteUInt32LittleEndian(message, type);
        memory.Write(slot, 4, type);                               // last: it says that there is a message
        Interrupt(source);
        return true;
    }

    void Interrupt(int source)
    {
        ulong value = _sources[source];
        if ((value & Masked) == 0) apic.Inject((byte)(value & VectorMask));
    }

    void Clear(ulong page)
    {
        if ((page & Enable) == 0) return;
        for (ulong i = 0; i <= PageMask; i += 8) memory.Write((page & ~PageMask) + i, 8, 0);
    }

    void FindAutoEoi()
    {
        apic.EndsByItself.Clear();
        foreach (ulong source in _sources)
            if ((source & (Masked | AutoEoi)) == AutoEoi) apic.EndsByItself[(int)(source & VectorMask)] = true;
    }
}
