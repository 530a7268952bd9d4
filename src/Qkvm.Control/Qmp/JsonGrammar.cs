using System.Text;
using System.Text.Unicode;

namespace Qkvm.Control.Qmp;

/// <summary>Checks the order of tokens and rewrites each as plain JSON; the first mistake of a value is kept, in QEMU's
/// words.</summary>
sealed class JsonGrammar
{
    enum Expect { Value, ValueOrEnd, Key, KeyOrEnd, Colon, SeparatorInObject, SeparatorInArray, Nothing }

    readonly Stack<bool> _isObject = new();
    Expect _expect;
    string? _error;

    public void Begin()
    {
        _isObject.Clear();
        _expect = Expect.Value;
        _error = null;
    }

    public string? Finish() => _error ?? (_expect == Expect.Nothing ? null : "expecting value");

    public void Take(ReadOnlySpan<byte> token, ByteBuffer output)
    {
        // only brackets are counted from here on, by who calls
        if (_error != null) return;
        byte first = token[0];
        bool isString = first is (byte)'"' or (byte)'\'',
            isPlain = first is not ((byte)'}' or (byte)']' or (byte)',' or (byte)':');
        switch (_expect)
        {
            case Expect.ValueOrEnd when first == ']': case Expect.KeyOrEnd when first == '}':
            case Expect.SeparatorInArray when first == ']': case Expect.SeparatorInObject when first == '}':
                _isObject.Pop();
                output.Add(first);
                AfterValue();
                break;
            case Expect.SeparatorInArray or Expect.SeparatorInObject:
                if (first != ',')
                    { _error = _expect == Expect.SeparatorInArray ? "expected separator in list"
                        : "expected separator in dict"; break; }
                output.Add(first);
                _expect = _expect == Expect.SeparatorInArray ? Expect.Value : Expect.Key;
                break;
            case Expect.Colon:
                if (first != ':') { _error = "missing : in object pair"; break; }
                output.Add(first);
                _expect = Expect.Value;
                break;
            case Expect.Key or Expect.KeyOrEnd:
                if (!isString) { _error = isPlain ? "key is not a string in object" : "expecting value"; break; }
                AddString(token, output);
                _expect = Expect.Colon;
                break;
            default:
                if (!isPlain) { _error = "expecting value"; break; }
                Value(token, isString, output);
                break;
        }
    }

    void Value(ReadOnlySpan<byte> token, bool isString, ByteBuffer output)
    {
        if (token[0] is (byte)'{' or (byte)'[')
        {
            bool isObject = token[0] == '{';
            _isObject.Push(isObject);
            output.Add(token);
            _expect = isObject ? Expect.KeyOrEnd : Expect.ValueOrEnd;
            return;
        }
        if (isString) AddString(token, output);
        else if (token[0] is >= (byte)'a' and <= (byte)'z'
            && !(token.SequenceEqual("true"u8) || token.SequenceEqual("false"u8) || token.SequenceEqual("null"u8)))
            _error = $"invalid keyword '{Encoding.ASCII.GetString(token)}'";
        else output.Add(token);
        AfterValue();
    }

    void AfterValue() => _expect = _isObject.Count == 0 ? Expect.Nothing : _isObject.Peek() ? Expect.SeparatorInObject
        : Expect.SeparatorInArray;

    /// <summary>In double quotes, with JSON's own escapes alone.</summary>
    void AddString(ReadOnlySpan<byte> token, ByteBuffer output)
    {
        ReadOnlySpan<byte> text = token[1..^1];
        if (!Utf8.IsValid(text)) { _error = "invalid UTF-8 sequence in string"; return; }
        output.Add((byte)'"');
        for (int i = 0; i < text.Length; i++)
        {
            byte b = text[i];
            if (b == '"') output.Add("\\\""u8);
            else if (b != '\\') output.Add(b);
            else if (text[++i] == '\'') output.Add((byte)'\'');
            else if ("\"\\/bfnrt"u8.Contains(text[i])) output.Add(text.Slice(i - 1, 2));
            else if (text[i] != 'u' || !TryHex(text[(i + 1)..], out int code))
                { _error = "invalid escape sequence in string"; return; }
            else
            {
                int length = 6;
                bool high = code is >= 0xD800 and < 0xDC00;
                bool paired = high && text.Length > i + 10 && text[i + 5] == '\\' && text[i + 6] == 'u'
                    && TryHex(text[(i + 7)..], out int low) && low is >= 0xDC00 and < 0xE000;
                if (code is >= 0xD800 and < 0xE000 && !paired)
                    { _error = $"\\u{code:x4} is not a valid Unicode character"; return; }
                if (paired) length = 12;
                output.Add(text.Slice(i - 1, length));
                i += length - 2;
            }
        }
        output.Add((byte)'"');
    }

    static bool TryHex(ReadOnlySpan<byte> text, out int code)
    {
        code = 0;
        return text.Length >= 4
            && int.TryParse(text[..4], System.Globalization.NumberStyles.AllowHexSpecifier, null, out code);
    }
}
