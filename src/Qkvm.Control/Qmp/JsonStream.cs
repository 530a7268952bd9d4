using System.Text;
using System.Text.Json;

namespace Qkvm.Control.Qmp;

/// <summary>Cuts what a client sends into JSON values, wherever it was split. RFC 8259, and strings in single quotes
/// too.</summary>
/// <remarks>Memory is bounded by QEMU's limits: 64 MiB a value, 2 Mi tokens, 1024 levels. An error is told once in
/// QEMU's words, and reading goes on behind it. What passes is rewritten as plain JSON and parsed by the class
/// library.</remarks>
/// <param name="onValue">Takes the value's ownership.</param>
/// <param name="onError">Hears what is wrong with the input.</param>
public sealed class JsonStream(Action<JsonDocument> onValue, Action<string> onError)
{
    public const int MaxBytes = 64 << 20, MaxTokens = 2 << 20, MaxDepth = 1024;

    enum Lexer { Start, String, Escape, Minus, Zero, Integer, Point, Fraction, Exponent, ExponentSign, ExponentDigits,
        Keyword, Recovery, SkipLine }

    static readonly JsonDocumentOptions s_options = new() { MaxDepth = MaxDepth, AllowDuplicateProperties = false };

    readonly ByteBuffer _token = new(), _value = new();
    readonly JsonGrammar _grammar = new();
    Lexer _lexer;
    byte _quote;
    int _tokens, _braces, _brackets;

    /// <summary>The client has gone: what it began is forgotten.</summary>
    public void Reset()
    {
        _lexer = Lexer.Start;
        BeginValue();
    }

    public void Feed(ReadOnlySpan<byte> data)
    {
        for (int i = 0; i < data.Length; i++)
        {
            if (_lexer == Lexer.SkipLine && data[i..].IndexOf((byte)'\n') is var toEnd && toEnd != 0)
            {
                if (toEnd < 0) return;
                i += toEnd;
            }
            // a byte that ends a number or a word belongs to the next token
            while (!Take(data[i])) { }
        }
    }

    /// <returns>False if the byte is to be looked at again.</returns>
    bool Take(byte b)
    {
        switch (_lexer)
        {
            case Lexer.Start: return Begin(b);
            case Lexer.String:
                if (b == _quote) { _token.Add(b); End(); return true; }
                if (b == '\\') return Go(Lexer.Escape, b);
                return b is < 0x20 or >= 0xFE ? Stray(b) : Go(Lexer.String, b);
            case Lexer.Escape: return b is < 0x20 or >= 0x80 ? Stray(b) : Go(Lexer.String, b);
            case Lexer.Minus: return b == '0' ? Go(Lexer.Zero, b) : IsDigit(b) ? Go(Lexer.Integer, b) : Stray(b);
            case Lexer.Zero: return IsDigit(b) ? Stray(b) : AfterInteger(b);
            case Lexer.Integer: return IsDigit(b) ? Go(Lexer.Integer, b) : AfterInteger(b);
            case Lexer.Point: return IsDigit(b) ? Go(Lexer.Fraction, b) : Stray(b);
            case Lexer.Fraction: return IsDigit(b) ? Go(Lexer.Fraction, b) : (b | 0x20) == 'e' ? Go(Lexer.Exponent, b)
                : EndBefore();
            case Lexer.Exponent: return b is (byte)'+' or (byte)'-' ? Go(Lexer.ExponentSign, b) : IsDigit(b)
                ? Go(Lexer.ExponentDigits, b) : Stray(b);
            case Lexer.ExponentSign: return IsDigit(b) ? Go(Lexer.ExponentDigits, b) : Stray(b);
            case Lexer.ExponentDigits: return IsDigit(b) ? Go(Lexer.ExponentDigits, b) : EndBefore();
            case Lexer.Keyword: return b is >= (byte)'a' and <= (byte)'z' ? Go(Lexer.Keyword, b) : EndBefore();
            case Lexer.Recovery:
                if (!IsBlank(b) && !IsStructural(b)) return true;
                _lexer = Lexer.Start;
                return false;
            default:                                               // SkipLine
                if (b == '\n') _lexer = Lexer.Start;
                return true;
        }
    }

    bool Begin(byte b)
    {
        if (IsBlank(b)) return true;
        _token.Clear();
        if (IsStructural(b)) { _token.Add(b); End(); return true; }
        _quote = b;
        return b switch
        {
            (byte)'"' or (byte)'\'' => Go(Lexer.String, b),
            (byte)'-' => Go(Lexer.Minus, b),
            (byte)'0' => Go(Lexer.Zero, b),
            >= (byte)'1' and <= (byte)'9' => Go(Lexer.Integer, b),
            >= (byte)'a' and <= (byte)'z' => Go(Lexer.Keyword, b),
            _ => Stray(b),
        };
    }

    bool AfterInteger(byte b) => b == '.' ? Go(Lexer.Point, b) : (b | 0x20) == 'e' ? Go(Lexer.Exponent, b)
        : EndBefore();

    bool Go(Lexer next, byte b)
    {
        _lexer = next;
        _token.Add(b);
        if (_token.Length + _value.Length > MaxBytes) Fail("JSON token size limit exceeded", Lexer.SkipLine);
        return true;
    }

    bool EndBefore()
    {
        End();
        return false;
    }

    /// <summary>A byte that fits no token: the value it stands in is lost.</summary>
    bool Stray(byte b)
    {
        _token.Add(b);
        Fail($"JSON parse error, stray '{Encoding.UTF8.GetString(_token.Bytes)}'", Lexer.Recovery);
        return true;
    }

    /// <summary>A token is complete; perhaps it completes the value.</summary>
    void End()
    {
        _lexer = Lexer.Start;
        byte first = _token.Bytes[0];
        _braces += first == '{' ? 1 : first == '}' ? -1 : 0;
        _brackets += first == '[' ? 1 : first == ']' ? -1 : 0;
        if (++_tokens > MaxTokens) { Fail("JSON token count limit exceeded", Lexer.SkipLine); return; }
        if (_braces + _brackets > MaxDepth) { Fail("JSON nesting depth limit exceeded", Lexer.SkipLine); return; }
        _grammar.Take(_token.Bytes, _value);
        if (_braces > 0 && _brackets >= 0 || _brackets > 0 && _braces >= 0) return;
        string? error = _grammar.Finish();
        JsonDocument? document = null;
        if (error == null)
        {
            try { document = JsonDocument.Parse(_value.Bytes.ToArray(), s_options); }
            catch (JsonException) { error = "duplicate key"; }     // all else the grammar has seen
        }
        BeginValue();
        if (error != null) onError($"JSON parse error, {error}");
        else onValue(document!);
    }

    void Fail(string error, Lexer next)
    {
        _lexer = next;
        BeginValue();
        onError(error);
    }

    void BeginValue()
    {
        _token.Clear();
        _value.Clear();
        _grammar.Begin();
        _tokens = _braces = _brackets = 0;
    }

    static bool IsDigit(byte b) => b is >= (byte)'0' and <= (byte)'9';
    static bool IsBlank(byte b) => b is (byte)' ' or (byte)'\t' or (byte)'\r' or (byte)'\n';
    static bool IsStructural(byte b) => b is (byte)'{' or (byte)'}' or (byte)'[' or (byte)']' or (byte)',' or (byte)':';
}

/// <summary>Bytes that grow, and give their memory back once they were many.</summary>
sealed class ByteBuffer
{
    const int Small = 16 << 10;

    byte[] _bytes = new byte[256];

    public int Length { get; private set; }
    public ReadOnlySpan<byte> Bytes => _bytes.AsSpan(0, Length);
    public ReadOnlyMemory<byte> Memory => _bytes.AsMemory(0, Length);

    public void Add(byte b)
    {
        if (Length == _bytes.Length) Array.Resize(ref _bytes, Length * 2);
        _bytes[Length++] = b;
    }

    public void Add(ReadOnlySpan<byte> bytes)
    {
        while (_bytes.Length - Length < bytes.Length) Array.Resize(ref _bytes, _bytes.Length * 2);
        bytes.CopyTo(_bytes.AsSpan(Length));
        Length += bytes.Length;
    }

    public void Clear()
    {
        Length = 0;
        if (_bytes.Length > Small) _bytes = new byte[Small];
    }
}
