using System.Text;
using Qkvm.Core.Char;

namespace Qkvm.Tests.Control.Fuzz;

/// <summary>A client that sends as much as the session has room for, comes and goes, and does not always
/// read.</summary>
/// <remarks>All on the main loop, as a backend's.</remarks>
sealed class FuzzClient(Random random) : ICharBackend
{
    const int MostHeard = 1 << 20;

    readonly StringBuilder _heard = new();

    public ICharFrontend? Frontend { get; private set; }
    public string Id => "fuzz";
    public string Description => "fuzz";
    public bool IsOpen { get; private set; }

    /// <summary>Takes a few bytes at a time, or none.</summary>
    public bool Stalls { get; set; }

    /// <summary>Bytes that the session has written.</summary>
    public long Written { get; private set; }

    /// <summary>What came since the connection began or this was asked last; cut off where it is long.</summary>
    public string TakeHeard()
    {
        string heard = _heard.ToString();
        _heard.Clear();
        return heard;
    }

    public int Write(ReadOnlySpan<byte> data)
    {
        int count = !IsOpen ? data.Length : Stalls ? random.Next(Math.Min(data.Length, 3)) : data.Length;
        Written += count;
        if (IsOpen && _heard.Length < MostHeard) _heard.Append(Encoding.Latin1.GetString(data[..count]));
        return count;
    }

    public void Connect(ICharFrontend? frontend) => Frontend = frontend;
    public void AcceptInput() { }
    public void HangUp() => Close();

    public void Open()
    {
        if (IsOpen) return;
        IsOpen = true;
        _heard.Clear();
        Frontend!.Event(CharEvent.Opened);
    }

    public void Close()
    {
        if (!IsOpen) return;
        (IsOpen, Stalls) = (false, false);
        Frontend!.Event(CharEvent.Closed);
        Frontend.Writable();
    }

    /// <returns>Bytes that the session had room for.</returns>
    public int Send(ReadOnlySpan<byte> data)
    {
        int sent = 0;
        while (IsOpen && sent < data.Length && Frontend!.Room is > 0 and var room)
        {
            int count = Math.Min(Math.Min(room, data.Length - sent), 1 + random.Next(500));
            Frontend.Receive(data.Slice(sent, count));
            sent += count;
        }
        return sent;
    }

    public void Read()
    {
        Stalls = false;
        for (int i = 0; i < 10 && IsOpen; i++) Frontend!.Writable();
    }
}
