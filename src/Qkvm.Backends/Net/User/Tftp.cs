using System.Buffers.Binary;
using System.Text;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>Gives files to guests that boot from the network. RFC 1350; options RFC 2347 to 2349.</summary>
/// <remarks>Nothing is written. Deviations: answers come from port 69, as libslirp's, and not from one of their own;
/// block numbers of long files go on at 0.</remarks>
sealed class Tftp(UserStack stack)
{
    const ushort ReadRequest = 1, Data = 3, Acknowledgment = 4, Error = 5, OptionAcknowledgment = 6;
    const ushort NotFound = 1, AccessViolation = 2, IllegalOperation = 4;

    const int MaxTransfers = 20, SmallestBlock = 8, LargestBlock = 1428, MaxOptions = 16, MaxRequest = 1024;
    const int MaxPatience = 255;                                   // seconds

    readonly Dictionary<IpEndpoint, TftpTransfer> _transfers = [];

    public int Count => _transfers.Count;

    /// <summary>A message to port 69.</summary>
    public void Input(IpEndpoint guest, IpEndpoint to, ReadOnlySpan<byte> data, MacAddress from)
    {
        if (data.Length < 4) return;
        ushort number = BinaryPrimitives.ReadUInt16BigEndian(data[2..]);
        switch (BinaryPrimitives.ReadUInt16BigEndian(data))
        {
            case ReadRequest: Begin(guest, to, data[2..], from); break;
            case Acknowledgment when _transfers.TryGetValue(guest, out TftpTransfer? transfer):
                if (number != transfer.Number) break;              // of one before: the answer is under way already
                if (transfer.IsLast) Remove(guest);
                else if (transfer.Advance()) Send(transfer);
                else Refuse(guest, to, from, AccessViolation, "Access violation");
                break;
            case Error: Remove(guest); break;
        }
    }

    /// <summary>What was not acknowledged in time goes again.</summary>
    public void Tick()
    {
        foreach ((IpEndpoint guest, TftpTransfer transfer) in _transfers)
        {
            if (stack.Now < transfer.Due) continue;
            if (--transfer.Attempts <= 0) { Remove(guest); return; } // the others next time
            Send(transfer);
        }
    }

    public void Clear()
    {
        while (_transfers.Count > 0) Remove(_transfers.Keys.First());
    }

    void Begin(IpEndpoint guest, IpEndpoint to, ReadOnlySpan<byte> request, MacAddress from)
    {
        Remove(guest);
        if (request.Length > MaxRequest || !TryText(ref request, out string name) || name.Length == 0
            || !TryText(ref request, out string mode)) return;
        bool isText = mode.Equals("netascii", StringComparison.OrdinalIgnoreCase);
        if (!isText && !mode.Equals("octet", StringComparison.OrdinalIgnoreCase))
        {
            Refuse(guest, to, from, IllegalOperation, "Unsupported transfer mode");
            return;
        }
        bool leaves = name.Split('/').Contains("..") || name.EndsWith('/');
        bool exists = true;
        if (leaves || SharedFile.Open(stack.Options.TftpFolder!, name, out exists) is not { } file)
        {
            if (exists) Refuse(guest, to, from, AccessViolation, "Access violation");
            else Refuse(guest, to, from, NotFound, "File not found");
            return;
        }
        if (_transfers.Count >= MaxTransfers) Remove(_transfers.MinBy(t => t.Value.Due).Key);
        var transfer = new TftpTransfer(guest, to, from, file, isText);
        _transfers[guest] = transfer;
        stack.NeedClock();
        List<byte> taken = TakeOptions(transfer, request);
        if (taken.Count > 0) transfer.Begin([0, (byte)OptionAcknowledgment, .. taken]);
        else if (!transfer.Advance()) { Refuse(guest, to, from, AccessViolation, "Access violation"); return; }
        Send(transfer);
    }

    /// <summary>The options that count, as they are acknowledged.</summary>
    static List<byte> TakeOptions(TftpTransfer transfer, ReadOnlySpan<byte> options)
    {
        List<byte> taken = [];
        for (int i = 0; i < MaxOptions && TryText(ref options, out string name) && TryText(ref options, out string text)
            && ulong.TryParse(text, out ulong value); i++)
        {
            ulong? answer = null;
            switch (name.ToLowerInvariant())
            {
                case "blksize" when value >= SmallestBlock:
                    transfer.BlockSize = (int)(answer = Math.Min(value, LargestBlock));
                    break;
                case "tsize" when !transfer.IsText: answer = (ulong)transfer.Length; break;
                case "timeout" when value is > 0 and <= MaxPatience:
                    transfer.Patience = (int)(answer = value) * 1000;
                    break;
            }
            if (answer != null) taken.AddRange(Encoding.ASCII.GetBytes($"{name}\0{answer}\0"));
        }
        return taken;
    }

    /// <summary>Takes what stands in front of the next zero; false if there is none.</summary>
    static bool TryText(ref ReadOnlySpan<byte> from, out string text)
    {
        int end = from.IndexOf((byte)0);
        text = end < 0 ? "" : Encoding.UTF8.GetString(from[..end]);
        if (end >= 0) from = from[(end + 1)..];
        return end >= 0;
    }

    void Send(TftpTransfer transfer)
    {
        transfer.Due = stack.Now + transfer.Patience;
        Send(transfer.Guest, transfer.Server, transfer.Mac, transfer.Message);
    }

    void Refuse(IpEndpoint guest, IpEndpoint to, MacAddress mac, ushort code, string why)
    {
        Remove(guest);
        Send(guest, to, mac, [0, (byte)Error, 0, (byte)code, .. Encoding.ASCII.GetBytes(why), 0]);
    }

    void Send(IpEndpoint guest, IpEndpoint to, MacAddress mac, ReadOnlySpan<byte> message)
    {
        message.CopyTo(stack.Udp.DataFor(guest.Address.IsV4));
        stack.Udp.SendToGuest(to, guest, mac, message.Length);
    }

    void Remove(IpEndpoint guest)
    {
        if (_transfers.Remove(guest, out TftpTransfer? transfer)) transfer.Dispose();
    }

    /// <summary>DATA's number in front of a block.</summary>
    internal static void WriteData(Span<byte> message, ushort number)
    {
        BinaryPrimitives.WriteUInt16BigEndian(message, Data);
        BinaryPrimitives.WriteUInt16BigEndian(message[2..], number);
    }
}
