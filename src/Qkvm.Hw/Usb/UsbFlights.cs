using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>A transfer descriptor that is carried out. Its bytes lie here until the controller writes them back, so
/// that a descriptor that the guest took away meanwhile changes no memory.</summary>
sealed class UsbFlight
{
    public UsbFlight(int room, Action<UsbFlight> ended)
    {
        Buffer = new byte[room];
        Packet = new UsbPacket(_ => ended(this));
    }

    public UsbPacket Packet { get; }
    public byte[] Buffer { get; }

    /// <summary>Where the descriptor lies, and what makes it another one.</summary>
    public uint Address { get; set; }
    public ulong Identity { get; set; }

    /// <summary>The controller has come by since the last <see cref="UsbFlights.Sweep"/>.</summary>
    public bool IsSeen { get; set; }
    public int Unseen { get; set; }

    public Span<byte> Data => Buffer.AsSpan(0, Packet.Length);
}

/// <summary>Transfers of one controller that devices have not ended, or whose end the controller has not seen. No more
/// than <see cref="Most"/>.</summary>
/// <param name="room">Bytes of the largest transfer.</param>
/// <param name="ended">One that was pending has ended.</param>
sealed class UsbFlights(int room, Action ended)
{
    public const int Most = 64;

    readonly List<UsbFlight> _current = [], _free = [];

    public int Count => _current.Count;

    /// <summary>The one of this descriptor; null: none, or it was of another descriptor at this place.</summary>
    public UsbFlight? Find(uint address, ulong identity)
    {
        foreach (UsbFlight transfer in _current)
        {
            if (transfer.Address != address) continue;
            if (transfer.Identity == identity)
            {
                transfer.IsSeen = true;
                return transfer;
            }
            Free(transfer);
            return null;
        }
        return null;
    }

    /// <summary>What is under way for a descriptor at this place is taken back.</summary>
    public void Drop(uint address)
    {
        for (int i = _current.Count - 1; i >= 0; i--)
            if (_current[i].Address == address) Free(_current[i]);
    }

    /// <summary>A new one; null: too many are under way.</summary>
    public UsbFlight? Take(uint address, ulong identity)
    {
        if (_current.Count >= Most) return null;
        UsbFlight transfer = _free.Count > 0 ? _free[^1] : new UsbFlight(room, _ => ended());
        if (_free.Count > 0) _free.RemoveAt(_free.Count - 1);
        (transfer.Address, transfer.Identity, transfer.IsSeen, transfer.Unseen) = (address, identity, true, 0);
        _current.Add(transfer);
        return transfer;
    }

    /// <summary>The controller is done with it; it is taken back where it is still under way.</summary>
    public void Free(UsbFlight transfer)
    {
        transfer.Packet.Cancel();
        _current.Remove(transfer);
        _free.Add(transfer);
    }

    /// <summary>Once a frame: takes back what the controller has not come by for so many frames.</summary>
    public void Sweep(int patience)
    {
        for (int i = _current.Count - 1; i >= 0; i--)
        {
            UsbFlight transfer = _current[i];
            transfer.Unseen = transfer.IsSeen ? 0 : transfer.Unseen + 1;
            transfer.IsSeen = false;
            if (transfer.Unseen > patience) Free(transfer);
        }
    }

    public void CancelAll()
    {
        while (_current.Count > 0) Free(_current[^1]);
    }
}
