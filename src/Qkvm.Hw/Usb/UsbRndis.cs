using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.State;

namespace Qkvm.Hw.Usb;

/// <summary>Which frames a host wants: NDIS_PACKET_TYPE_….</summary>
[Flags]
enum UsbNetFilter : uint
{
    None = 0, Directed = 1, Multicast = 2, AllMulticast = 4, Broadcast = 8, Promiscuous = 32,
    All = Directed | AllMulticast | Broadcast | Promiscuous,
}

/// <summary>What Windows says to a network card over USB. Spec: [MS-RNDIS] Remote Network Driver Interface
/// Specification 5.0; names are its.</summary>
/// <param name="mac">6 bytes.</param>
/// <param name="isLinkUp">The cable leads somewhere.</param>
sealed class UsbRndis(byte[] mac, Func<bool> isLinkUp)
{
    /// <summary>REMOTE_NDIS_PACKET_MSG in front of a frame.</summary>
    public const int PacketHeader = 44;
    public const int LargestFrame = 1514;
    const int MostResponses = 4096, MessageHeader = 8, QueryHeader = 28, LargestTransfer = PacketHeader + LargestFrame;

    // MessageType, section 2.2; an answer has the highest bit set
    const uint PacketMessage = 1, InitializeMessage = 2, HaltMessage = 3, QueryMessage = 4, SetMessage = 5,
        ResetMessage = 6, IndicateMessage = 7, KeepaliveMessage = 8, Complete = 1u << 31;
    const uint Success = 0, NotSupported = 0xC000_00BB, InvalidData = 0xC001_0015,
        MediaConnect = 0x4001_000B, MediaDisconnect = 0x4001_000C;

    // OIDs
    const uint SupportedList = 0x0001_0101, HardwareStatus = 0x0001_0102, MediaSupported = 0x0001_0103,
        MediaInUse = 0x0001_0104, MaximumFrameSize = 0x0001_0106, LinkSpeed = 0x0001_0107,
        TransmitBlockSize = 0x0001_010A, ReceiveBlockSize = 0x0001_010B, VendorId = 0x0001_010C,
        VendorDescription = 0x0001_010D, CurrentPacketFilter = 0x0001_010E, MaximumTotalSize = 0x0001_0111,
        MediaConnectStatus = 0x0001_0114, VendorDriverVersion = 0x0001_0116, PhysicalMedium = 0x0001_0202,
        TransmitOk = 0x0002_0101, ReceiveOk = 0x0002_0102, TransmitError = 0x0002_0103, ReceiveError = 0x0002_0104,
        ReceiveNoBuffer = 0x0002_0105, PermanentAddress = 0x0101_0101, CurrentAddress = 0x0101_0102,
        MulticastList = 0x0101_0103, MaximumListSize = 0x0101_0104, AlignmentErrors = 0x0102_0101,
        OneCollision = 0x0102_0102, MoreCollisions = 0x0102_0103;
    static readonly uint[] s_supported =
    [
        SupportedList, HardwareStatus, MediaSupported, MediaInUse, MaximumFrameSize, LinkSpeed, TransmitBlockSize,
        ReceiveBlockSize, VendorId, VendorDescription, CurrentPacketFilter, MaximumTotalSize, MediaConnectStatus,
        VendorDriverVersion, PhysicalMedium, TransmitOk, ReceiveOk, TransmitError, ReceiveError, ReceiveNoBuffer,
        PermanentAddress, CurrentAddress, MulticastList, MaximumListSize, AlignmentErrors, OneCollision,
        MoreCollisions,
    ];
    const uint Bits100 = 120_000;                                  // link speed: 12 Mb/s, in units of 100

    readonly byte[] _responses = new byte[MostResponses];          // each begins with its type and its length
    int _waiting;                                                  // bytes of them
    bool _isInitialized;
    uint _filter, _sent, _received;                                // the last two: frames

    /// <summary>Which frames it wants, once the host has asked for any.</summary>
    public UsbNetFilter Filter => (UsbNetFilter)_filter;

    public bool HasResponse => _waiting > 0;

    public void Reset()
    {
        (_waiting, _isInitialized, _filter, _sent, _received) = (0, false, 0, 0, 0);
        Array.Clear(_responses);
    }

    public void CountSent() => _sent++;
    public void CountReceived() => _received++;

    /// <summary>SEND_ENCAPSULATED_COMMAND. False: it is no message, or answers to others wait unread.</summary>
    public bool Obey(ReadOnlySpan<byte> message)
    {
        if (message.Length < MessageHeader || Word(message, 1) > message.Length) return false;
        message = message[..(int)Word(message, 1)];
        switch (Word(message, 0))
        {
            case InitializeMessage: return Initialize(message);
            case HaltMessage:
                Reset();
                return true;
            case QueryMessage: return Query(message);
            case SetMessage: return Set(message);
            case ResetMessage:
                _waiting = 0;
                return Put(ResetMessage, [Success, 1]);            // addressing is to be set anew
            case KeepaliveMessage: return Put(KeepaliveMessage, [Word(message, 2), Success]);
            default: return false;
        }
    }

    /// <summary>GET_ENCAPSULATED_RESPONSE: one answer, or a zero where none waits.</summary>
    public int Answer(Span<byte> room)
    {
        if (_waiting == 0) return Math.Min(1, room.Length);
        int length = (int)Word(_responses, 1), count = Math.Min(length, room.Length);
        _responses.AsSpan(0, count).CopyTo(room);
        _waiting -= length;
        _responses.AsSpan(length, _waiting).CopyTo(_responses);
        return count;
    }

    /// <summary>The cable was plugged or pulled.</summary>
    public void Indicate(bool isUp)
    {
        if (_isInitialized) Put(IndicateMessage, [isUp ? MediaConnect : MediaDisconnect, 0, 0]);
    }

    /// <summary>Section 2.2.14, in front of a frame of this length.</summary>
    public static void WritePacketHeader(Span<byte> target, int length)
    {
        target[..PacketHeader].Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(target, PacketMessage);
        BinaryPrimitives.WriteInt32LittleEndian(target[4..], PacketHeader + length);
        BinaryPrimitives.WriteInt32LittleEndian(target[8..], PacketHeader - MessageHeader); // from that field on
        BinaryPrimitives.WriteInt32LittleEndian(target[12..], length);
    }

    /// <summary>Bytes of the message that begins here; 0: its length has not come yet.</summary>
    public static uint LengthOf(ReadOnlySpan<byte> message) => message.Length < MessageHeader ? 0
        : Math.Max(Word(message, 1), MessageHeader);

    /// <summary>Where the frame lies in a message; no bytes: there is none.</summary>
    public static (int Offset, int Length) FrameOf(ReadOnlySpan<byte> message)
    {
        if (message.Length < PacketHeader || Word(message, 0) != PacketMessage) return default;
        ulong start = (ulong)Word(message, 2) + MessageHeader, length = Word(message, 3);
        return start + length <= (ulong)message.Length ? ((int)start, (int)length) : default;
    }

    public void Exchange(StateStream state)
    {
        byte[] waiting = state.IsLoading ? [] : _responses[.._waiting];
        state.Field("initialized", ref _isInitialized);
        state.Field("filter", ref _filter);
        state.Field("sent", ref _sent);
        state.Field("received", ref _received);
        state.Blob("responses", ref waiting, MostResponses);
        for (int at = 0; at < waiting.Length;)
        {
            ReadOnlySpan<byte> rest = waiting.AsSpan(at);
            if (rest.Length < MessageHeader || Word(rest, 1) < MessageHeader || Word(rest, 1) > rest.Length)
                throw state.Refuse("responses", $"none begins at {at}");
            at += (int)Word(rest, 1);
        }
        if (!state.IsLoading) return;
        waiting.CopyTo(_responses, 0);
        _waiting = waiting.Length;
    }

    bool Initialize(ReadOnlySpan<byte> message)
    {
        const uint major = 1, connectionless = 1, ethernet = 0;
        uint request = Word(message, 2);
        Reset();
        _isInitialized = true;
        return Put(InitializeMessage,
            [request, Success, major, 0, connectionless, ethernet, 1, LargestTransfer, 0, 0, 0]);
    }

    bool Query(ReadOnlySpan<byte> message)
    {
        const uint bufferOffset = 16;                              // of the answer's, from its RequestID on
        Span<byte> buffer = stackalloc byte[128];
        int length = Answer(Word(message, 3), buffer);
        uint request = Word(message, 2);
        return length < 0 ? Put(QueryMessage, [request, NotSupported, 0, 0])
            : Put(QueryMessage, [request, Success, (uint)length, length == 0 ? 0 : bufferOffset], buffer[..length]);
    }

    /// <returns>Bytes, or -1 for a question that is none.</returns>
    int Answer(uint oid, Span<byte> buffer)
    {
        if (oid == SupportedList)
        {
            for (int i = 0; i < s_supported.Length; i++)
                BinaryPrimitives.WriteUInt32LittleEndian(buffer[(i * sizeof(uint))..], s_supported[i]);
            return s_supported.Length * sizeof(uint);
        }
        if (oid == VendorDescription) return Encoding.ASCII.GetBytes("QEMU USB RNDIS Net\0", buffer);
        if (oid is PermanentAddress or CurrentAddress)
        {
            mac.CopyTo(buffer);
            return mac.Length;
        }
        uint? number = oid switch
        {
            HardwareStatus or MediaSupported or MediaInUse or PhysicalMedium or TransmitError or ReceiveError
                or ReceiveNoBuffer or AlignmentErrors or OneCollision or MoreCollisions => 0,
            MaximumFrameSize => LargestFrame - 14,
            LinkSpeed => Bits100,
            TransmitBlockSize or ReceiveBlockSize => LargestFrame,
            VendorId => 0x00FF_FFFF,                               // none is registered
            CurrentPacketFilter => _filter,
            MaximumTotalSize => LargestTransfer,
            MediaConnectStatus => isLinkUp() ? 0u : 1,
            VendorDriverVersion => 1,
            TransmitOk => _sent,
            ReceiveOk => _received,
            MulticastList => 0xE000_0000,
            MaximumListSize => 1,
            _ => null,
        };
        if (number is not { } value) return -1;
        BinaryPrimitives.WriteUInt32LittleEndian(buffer, value);
        return sizeof(uint);
    }

    bool Set(ReadOnlySpan<byte> message)
    {
        ulong length = Word(message, 4), start = (ulong)Word(message, 5) + MessageHeader;
        uint status = InvalidData;
        if (message.Length >= QueryHeader && start + length <= (ulong)message.Length)
            switch (Word(message, 3))
            {
                case CurrentPacketFilter when length >= sizeof(uint):
                    _filter = BinaryPrimitives.ReadUInt32LittleEndian(message[(int)start..]);
                    status = Success;
                    break;
                case MulticastList: status = Success; break;       // all of them pass
                default: status = NotSupported; break;
            }
        return Put(SetMessage, [Word(message, 2), status]);
    }

    /// <summary>An answer of words and bytes.</summary>
    bool Put(uint type, ReadOnlySpan<uint> words, ReadOnlySpan<byte> bytes = default)
    {
        int length = MessageHeader + words.Length * sizeof(uint) + bytes.Length;
        if (length > MostResponses - _waiting) return false;
        Span<byte> target = _responses.AsSpan(_waiting, length);
        BinaryPrimitives.WriteUInt32LittleEndian(target, type == IndicateMessage ? type : type | Complete);
        BinaryPrimitives.WriteInt32LittleEndian(target[4..], length);
        for (int i = 0; i < words.Length; i++)
            BinaryPrimitives.WriteUInt32LittleEndian(target[(MessageHeader + i * sizeof(uint))..], words[i]);
        bytes.CopyTo(target[(length - bytes.Length)..]);
        _waiting += length;
        return true;
    }

    /// <summary>Of a message, which may be too short: then zero.</summary>
    static uint Word(ReadOnlySpan<byte> message, int index) => message.Length < (index + 1) * sizeof(uint) ? 0
        : BinaryPrimitives.ReadUInt32LittleEndian(message[(index * sizeof(uint))..]);
}
