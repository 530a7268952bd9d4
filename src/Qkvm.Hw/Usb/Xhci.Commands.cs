using static Qkvm.Hw.Usb.XhciRegisters;

namespace Qkvm.Hw.Usb;

/// <summary>Doorbells, and the command ring. xHCI 1.2, section 4.6.</summary>
public sealed partial class Xhci
{
    void Ring(uint offset, uint value)
    {
        int slot = (int)(offset / 4);
        if (!IsRunning || offset % 4 != 0 || slot > _slots.Length) return;
        if (slot > 0)
        {
            _slots[slot - 1].Ring((byte)value);
            return;
        }
        if ((value & 0xFF) != 0) return;
        _commandsRun = true;
        RunCommands();
    }

    void RunCommands()
    {
        for (int budget = Turn; budget > 0; budget--)
        {
            if (!_commandsRun || !IsRunning) return;
            if (!_commands.TryTake(Dma, out XhciTrb trb, out bool isBroken))
            {
                if (isBroken) Die();
                return;
            }
            (byte code, byte slot) = Execute(trb);
            Tell(0, new XhciTrb(trb.Address, CompletionCode(code), CommandCompletion << 10 | (uint)slot << 24));
        }
        GoOnSoon();
    }

    /// <summary>Returns a completion code, and the slot it is about.</summary>
    (byte Code, byte Slot) Execute(in XhciTrb trb)
    {
        switch (trb.Type)
        {
            case NoOpCommand: return (Success, 0);
            case EnableSlot: return Enable();
            case DisableSlot or AddressDevice or ConfigureEndpoint or EvaluateContext or ResetEndpoint or StopEndpoint
                or SetDequeue or ResetDeviceCommand: break;
            default: return (TrbError, 0);
        }
        byte number = trb.Slot;
        if (number < 1 || number > _slots.Length) return (TrbError, number);
        XhciSlot slot = _slots[number - 1];
        if (!slot.IsEnabled) return (SlotNotEnabled, number);
        byte code = trb.Type switch
        {
            DisableSlot => slot.Disable(),
            AddressDevice => slot.Address(trb.Parameter & ~0xFul, !trb.Has(BlockSetAddress), ContextOf(number)),
            ConfigureEndpoint => slot.Configure(trb.Parameter & ~0xFul, trb.Has(Deconfigure)),
            EvaluateContext => slot.Evaluate(trb.Parameter & ~0xFul),
            ResetEndpoint => slot.ResetEndpoint(trb.Endpoint),
            StopEndpoint => slot.StopEndpoint(trb.Endpoint),
            SetDequeue => slot.SetDequeue(trb.Endpoint, trb.Parameter),
            _ => slot.ResetDevice(),
        };
        return (code, number);
    }

    (byte Code, byte Slot) Enable()
    {
        int most = Math.Min(_slots.Length, (int)_config);          // MaxSlotsEn
        for (int i = 0; i < most; i++)
        {
            if (_slots[i].IsEnabled) continue;
            _slots[i].Enable();
            return (Success, (byte)(i + 1));
        }
        return (NoSlots, 0);
    }

    /// <summary>Where a slot's device context lies, by the driver's array; 0: nowhere.</summary>
    ulong ContextOf(byte slot)
    {
        Span<byte> entry = stackalloc byte[8];
        return Dma.Read(_contexts + 8 * (ulong)slot, entry)
            ? System.Buffers.Binary.BinaryPrimitives.ReadUInt64LittleEndian(entry) & ~0x3Ful : 0;
    }
}
