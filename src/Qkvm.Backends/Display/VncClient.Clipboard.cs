using System.Buffers.Binary;
using static Qkvm.Backends.Display.VncClipboard;

namespace Qkvm.Backends.Display;

/// <summary>Text that is cut at one viewer and pasted at another.</summary>
sealed partial class VncClient
{
    const byte ServerCutText = 3;

    byte[] _cutText = [];                                          // what has come of one
    int _cutCount, _cutLength;
    bool _cutIsExtended, _knowsClipboard, _cutPending;

    /// <summary>ClientCutText: a length, which is negative for the extended form.</summary>
    void BeginCutText(int length)
    {
        _cutIsExtended = length < 0;
        if (length is > MaxBytes or < -MaxBytes || _cutIsExtended && length > -4) { Close(); return; }
        (_cutLength, _cutCount) = (Math.Abs(length), 0);
        if (_cutLength == 0) TakeCutText();
    }

    /// <summary>Takes a part; memory grows with what has come.</summary>
    int GatherCutText(ReadOnlySpan<byte> data)
    {
        int count = Math.Min(_cutLength - _cutCount, data.Length);
        if (_cutText.Length < _cutCount + count)
            Array.Resize(ref _cutText, Math.Min(Math.Max(_cutText.Length * 2, _cutCount + count), _cutLength));
        data[..count].CopyTo(_cutText.AsSpan(_cutCount));
        _cutCount += count;
        if (_cutCount == _cutLength) TakeCutText();
        return count;
    }

    void TakeCutText()
    {
        byte[] all = _cutText;
        Span<byte> whole = all.AsSpan(0, _cutLength);
        (_cutText, _cutLength, _cutCount) = ([], 0, 0);
        if (!_cutIsExtended) { _server.Cut(this, FromLatin(whole)); return; }
        uint flags = BinaryPrimitives.ReadUInt32BigEndian(whole);
        bool isText = (flags & TextFormat) != 0;
        if ((flags & Caps) != 0) return;                           // it has the sizes that it likes; ours are asked for
        if ((flags & Request) != 0 && isText) ProvideText();
        else if ((flags & Peek) != 0) SendExtended(Notify | (_server.CutText != null ? TextFormat : 0), []);
        else if ((flags & Notify) != 0 && isText) SendExtended(Request | TextFormat, []);
        else if ((flags & Provide) != 0 && isText && Unpack(whole[4..]) is { } text) _server.Cut(this, text);
        Flush();
    }

    /// <summary>Another viewer has cut something. Who does not read hears of the last one, when it does.</summary>
    public void TellOfCut()
    {
        _cutPending = true;
        TryTellOfCut();
    }

    void TryTellOfCut()
    {
        if (!_cutPending || _phase != Phase.Normal || _connection.Pending > 0 || _server.CutText is not { } text)
            return;
        _cutPending = false;
        if (_encodings.HasClipboard) SendExtended(Notify | TextFormat, []);
        else
        {
            _output.Dword(ServerCutText << 24);
            _output.Text(ToLatin(text));
        }
        Flush();
    }

    /// <summary>It takes the extended form: what can be done, and how much text may come unasked.</summary>
    void OfferClipboard()
    {
        _knowsClipboard = true;
        SendExtended(Caps | Request | Peek | Notify | Provide | TextFormat, [0, 0, 0, 0]);
    }

    void ProvideText()
    {
        if (_server.CutText is { } text) SendExtended(Provide | TextFormat, Pack(text));
    }

    void SendExtended(uint flags, ReadOnlySpan<byte> body)
    {
        _output.Dword(ServerCutText << 24);
        _output.Dword(-(body.Length + 4));
        _output.Dword((int)flags);
        _output.Bytes(body);
    }
}
