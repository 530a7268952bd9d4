using System.Buffers.Binary;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Tests.Tpm;

/// <summary>The other end of swtpm's protocol, restated: swtpm_ioctls(3). It answers a TPM command with a tag, a length
/// and what the command was.</summary>
sealed class FakeSwtpm : IDisposable
{
    const int SetLocality = 5, ResetEstablished = 11, SetDataFd = 16, SetBufferSize = 17, GetEstablished = 4, Init = 2,
        GetCapability = 1;

    readonly StreamSocket _control;
    readonly Thread _thread;
    StreamSocket? _data;

    public FakeSwtpm(StreamSocket control)
    {
        _control = control;
        _thread = new Thread(Run) { IsBackground = true };
        _thread.Start();
    }

    public ushort Tag { get; init; } = 0x8001;
    public uint Capabilities { get; init; } = 0xFFFF;

    /// <summary>Answers a TPM command with these bytes; null: with those that it should; empty: it goes away.</summary>
    public Func<byte[], byte[]?> Lie { get; set; } = static _ => null;

    /// <summary>Answers a control command with this result.</summary>
    public Func<uint, uint> Result { get; set; } = static _ => 0;

    public List<string> Heard { get; } = [];

    public void Dispose()
    {
        _control.HangUp();
        _data?.HangUp();
        _thread.Join();
        _control.Dispose();
        _data?.Dispose();
    }

    void Run()
    {
        try
        {
            while (true)
                if (_control.Wait(forRoom: false, 1)) Control();
                else if (_data?.Wait(forRoom: false, 1) == true) Data(_data);
        }
        catch (EndOfStreamException)
        {
            _control.HangUp();
            _data?.HangUp();
        }
    }

    void Control()
    {
        uint request = BinaryPrimitives.ReadUInt32BigEndian(Take(_control, 4));
        string said = request switch
        {
            Init or SetBufferSize => $" {BinaryPrimitives.ReadUInt32BigEndian(Take(_control, 4))}",
            SetLocality or ResetEstablished => $" {Take(_control, 1)[0]}",
            _ => "",
        };
        if (request == SetDataFd) _data = new StreamSocket(_control.TakeDescriptor());
        lock (Heard) Heard.Add($"{request}{said}");
        uint result = Result(request);
        uint[] answer = result != 0 ? [result] : request switch
        {
            GetCapability => [0, Capabilities],
            GetEstablished => [0, 0x01000000],
            SetBufferSize => [0, uint.Parse(said), 2808, 4096],
            _ => [0],
        };
        foreach (uint word in answer)
        {
            byte[] raw = new byte[4];
            BinaryPrimitives.WriteUInt32BigEndian(raw, word);
            _control.Write(raw);
        }
    }

    void Data(StreamSocket data)
    {
        byte[] header;
        try { header = Take(data, 10); }
        catch (EndOfStreamException)                               // the machine goes, and says so in a moment
        {
            _data = null;
            return;
        }
        byte[] command = [.. header, .. Take(data, (int)BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(2)) - 10)];
        lock (Heard) Heard.Add(Convert.ToHexString(command));
        byte[] answer = Lie(command) ?? [(byte)(Tag >> 8), (byte)Tag, .. command[2..]];
        if (answer.Length == 0) throw new EndOfStreamException();
        data.Write(answer);
    }

    static byte[] Take(StreamSocket socket, int count)
    {
        byte[] taken = new byte[count];
        for (int have = 0; have < count;)
        {
            int n = socket.Read(taken.AsSpan(have));
            if (n > 0) have += n;
            else if (n == 0 || !socket.Wait(forRoom: false, 60_000)) throw new EndOfStreamException();
        }
        return taken;
    }
}
