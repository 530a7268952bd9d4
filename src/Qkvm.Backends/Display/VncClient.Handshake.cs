using System.Buffers.Binary;
using System.Text;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Display;

/// <summary>A viewer introduces itself. Spec: RFC 6143, sections 7.1 to 7.3; VeNCrypt 0.2.</summary>
sealed partial class VncClient
{
    enum Phase { Version, Security, VeNCryptVersion, VeNCryptType, Tls, Challenge, Init, Normal, Closed }

    const int ChallengeLength = 16, VeNCryptMinor = 2;

    Phase _phase;
    int _minorVersion;
    byte[] _challenge = [];
    bool _isSecured;

    public void Greet()
    {
        _output.Bytes("RFB 003.008\n"u8);
        Flush();
        _connection.AcceptInput();
    }

    int HandshakeLength => _phase switch
    {
        Phase.Version => 12,
        Phase.VeNCryptVersion => 2,
        Phase.VeNCryptType => 4,
        Phase.Challenge => ChallengeLength,
        _ => 1,
    };

    void TakeHandshake(ReadOnlySpan<byte> data)
    {
        switch (_phase)
        {
            case Phase.Version: TakeVersion(data); break;
            case Phase.Security: TakeSecurity(data[0]); break;
            case Phase.VeNCryptVersion: TakeVeNCryptVersion(data[0], data[1]); break;
            case Phase.VeNCryptType: TakeVeNCryptType(BinaryPrimitives.ReadInt32BigEndian(data)); break;
            case Phase.Challenge: TakeResponse(data); break;
            case Phase.Init: TakeInit(data[0] != 0); break;
        }
    }

    void TakeVersion(ReadOnlySpan<byte> version)
    {
        bool valid = version.StartsWith("RFB 003."u8) && version[11] == '\n'
            && !version[8..11].ContainsAnyExceptInRange((byte)'0', (byte)'9');
        if (!valid) { Close(); return; }
        int minor = (version[8] - '0') * 100 + (version[9] - '0') * 10 + version[10] - '0';
        _minorVersion = minor is 7 or 8 ? minor : 3;               // other numbers are to be taken for 3.3
        byte type = _security.Type;
        if (_minorVersion != 3)
        {
            _output.Byte(1);
            _output.Byte(type);
            _phase = Phase.Security;
            Flush();
            return;
        }
        if (type == VncSecurity.VeNCrypt)
        {
            _output.Dword(0);
            _output.Text("this server wants a viewer of version 3.7 or later that has VeNCrypt"u8);
            Flush();
            Close();
            return;
        }
        _output.Dword(type);
        Authenticate();
    }

    void TakeSecurity(byte type)
    {
        if (type != _security.Type) Refuse($"this server offers security type {_security.Name} alone");
        else if (type != VncSecurity.VeNCrypt) Authenticate();
        else
        {
            _output.Byte(0);
            _output.Byte(VeNCryptMinor);
            _phase = Phase.VeNCryptVersion;
            Flush();
        }
    }

    void TakeVeNCryptVersion(byte major, byte minor)
    {
        bool isOurs = major == 0 && minor == VeNCryptMinor;
        _output.Byte(isOurs ? 0 : 1);
        if (isOurs)
        {
            _output.Byte(1);
            _output.Dword(_security.SubType);
        }
        _phase = Phase.VeNCryptType;
        Flush();
        if (!isOurs) Close();
    }

    void TakeVeNCryptType(int type)
    {
        bool isOurs = type == _security.SubType;
        _output.Byte(isOurs ? 1 : 0);
        _phase = Phase.Tls;
        Flush();
        if (isOurs && _connection.Pending == 0 && _security.Credentials is { } credentials) StartTls(credentials);
        else Close();
    }

    void StartTls(TlsCredentials credentials)
    {
        _isSecured = true;
        _connection = new Connection(new TlsTransport((StreamSocket)_connection.Release(), credentials,
            _server.HandshakeLimit, () => _loop.Post(Continue), _ => _loop.Post(Close)), _loop, this, MaxPending);

        void Continue()
        {
            if (_phase != Phase.Tls) return;
            Authenticate();
            _connection.AcceptInput();
        }
    }

    /// <summary>By the password, where there is one.</summary>
    void Authenticate()
    {
        if (_security.HasPassword)
        {
            _challenge = VncPassword.NewChallenge();
            _output.Bytes(_challenge);
            _phase = Phase.Challenge;
        }
        else
        {
            if (_minorVersion == 8 || _isSecured) _output.Dword(0);
            _phase = Phase.Init;
        }
        Flush();
    }

    void TakeResponse(ReadOnlySpan<byte> response)
    {
        if (!_security.Accepts(_challenge, response)) { Refuse("Authentication failed"); return; }
        _output.Dword(0);
        _phase = Phase.Init;
        Flush();
    }

    void Refuse(string why)
    {
        if (_minorVersion == 8 || _phase == Phase.Challenge) _output.Dword(1);
        if (_minorVersion == 8) _output.Text(Encoding.ASCII.GetBytes(why));
        Flush();
        Close();
    }

    void TakeInit(bool shared)
    {
        if (!_server.Admit(this, shared)) { Close(); return; }
        IsExclusive = !shared;
        _phase = Phase.Normal;
        OnResized();
        (_width, _height) = (_server.Picture.Width, _server.Picture.Height);
        _output.Word(_width);
        _output.Word(_height);
        _output.Bytes(PixelFormat.ServerFormat);
        _output.Text(Encoding.UTF8.GetBytes(_server.Name));
        Flush();
    }
}
