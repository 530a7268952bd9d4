using System.Buffers.Binary;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>The control queue of a network device: class, command, data, and one byte of answer. Virtio 1.2, section
/// 5.1.6.5.</summary>
sealed class VirtioNetControl(VirtioNet card)
{
    const byte Ok = 0, Error = 1;
    const byte ReceiveMode = 0, MacClass = 1, VlanClass = 2, AnnounceClass = 3, MqClass = 4, OffloadsClass = 5;
    const byte TableSet = 0, AddressSet = 1, VlanAdd = 0, VlanRemove = 1, AnnounceAck = 0, PairsSet = 0,
        RssConfig = 1, HashConfig = 2, OffloadsSet = 0;
    const int HeaderLength = 2;
    const int LargestCommand = 64 * 1024;                          // more than any table we could keep

    byte[] _command = new byte[256];                               // not migrated: used inside Process alone

    public void Process(Virtqueue queue)
    {
        int budget = Virtqueue.Burst;
        do
            if (!Process(queue, ref budget)) return;
        while (queue.EnableKicks() && budget > 0);
    }

    bool Process(Virtqueue queue, ref int budget)
    {
        for (; budget > 0 && queue.TryPop(out DescriptorChain? chain); budget--)
        {
            if (chain.ReadableLength < HeaderLength || chain.WritableLength < 1)
            {
                queue.Unpop(chain);
                card.Control.Fail("a control command without its header or answer");
                return false;
            }
            ReadOnlySpan<byte> command = Read(chain);
            bool isDone = command.Length > 0 && Execute(command);
            byte answer = isDone ? Ok : Error;
            bool changesFilter = isDone && command[0] is ReceiveMode or MacClass or VlanClass;
            chain.Writable.Slice(0, 1).CopyFrom([answer]);
            queue.Push(chain, 1);
            queue.Signal();
            if (changesFilter) card.TellFilter();
        }
        return true;
    }

    ReadOnlySpan<byte> Read(DescriptorChain chain)
    {
        if (chain.ReadableLength > LargestCommand) return default;
        int length = (int)chain.ReadableLength;
        if (length > _command.Length) _command = new byte[LargestCommand];
        chain.Readable.CopyTo(_command);
        return _command.AsSpan(0, length);
    }

    bool Execute(ReadOnlySpan<byte> command)
    {
        ReadOnlySpan<byte> data = command[HeaderLength..];
        switch (command[0], command[1])
        {
            case (ReceiveMode, _): return data.Length == 1 && SetMode(command[1], data[0] != 0);
            case (MacClass, AddressSet):
                if (data.Length != MacAddress.Length) return false;
                card.SetMac(data);
                return true;
            case (MacClass, TableSet):
                return TakeTable(ref data, out ReadOnlySpan<byte> unicast)
                    && TakeTable(ref data, out ReadOnlySpan<byte> multicast)
                    && SetTables(unicast.ToArray(), multicast.ToArray());
            case (VlanClass, VlanAdd or VlanRemove):
                return data.Length == 2
                    && SetVlan(BinaryPrimitives.ReadUInt16LittleEndian(data), command[1] == VlanAdd);
            case (AnnounceClass, AnnounceAck):
                card.AcknowledgeAnnounce();
                return true;
            case (MqClass, PairsSet):
                return data.Length == 2 && card.SetPairs(BinaryPrimitives.ReadUInt16LittleEndian(data));
            case (MqClass, RssConfig or HashConfig): return card.SetSteering(data, command[1] == RssConfig);
            case (OffloadsClass, OffloadsSet):
                return data.Length == 8 && card.SetGuestOffloads(BinaryPrimitives.ReadUInt64LittleEndian(data));
            default: return false;
        }
    }

    bool SetMode(byte command, bool on)
    {
        bool isKnown = false;
        card.Change(filter => isKnown = filter.SetMode(command, on));
        return isKnown;
    }

    bool SetTables(byte[] unicast, byte[] multicast)
    {
        card.Change(filter => filter.SetTables(unicast, multicast));
        return true;
    }

    bool SetVlan(ushort id, bool pass)
    {
        bool exists = false;
        card.Change(filter => exists = filter.SetVlan(id, pass));
        return exists;
    }

    /// <summary>struct virtio_net_ctrl_mac: a count, then as many addresses.</summary>
    static bool TakeTable(ref ReadOnlySpan<byte> data, out ReadOnlySpan<byte> table)
    {
        table = default;
        if (data.Length < 4) return false;
        uint entries = BinaryPrimitives.ReadUInt32LittleEndian(data);
        if (entries > (uint)(data.Length - 4) / MacAddress.Length) return false;
        table = data.Slice(4, (int)entries * MacAddress.Length);
        data = data[(4 + table.Length)..];
        return true;
    }
}
