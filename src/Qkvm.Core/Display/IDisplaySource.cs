namespace Qkvm.Core.Display;

/// <summary>A screen that a device paints: VNC and screendump ask for it when they need a picture.</summary>
public interface IDisplaySource
{
    /// <summary>Paints the present picture, resizing the buffer to the mode. Under the machine lock, at most some 60
    /// times a second.</summary>
    void Paint(FrameBuffer target);

    /// <summary>The same without the pointer, where <see cref="Cursor"/> tells of one.</summary>
    void PaintBare(FrameBuffer target) => Paint(target);

    /// <summary>The pointer that the card draws, another object when it changes; null for a card that draws none. Under
    /// the machine lock.</summary>
    CursorShape? Cursor => null;

    /// <summary>The present picture as characters; false where it does not consist of such. The same.</summary>
    bool PaintText(TextScreen target) => false;

    /// <summary>Somebody who watches would like another resolution; false where the screen cannot tell the guest. Under
    /// the machine lock.</summary>
    bool RequestSize(int width, int height) => false;
}

/// <summary>A server that shows the screens to viewers elsewhere.</summary>
public interface IRemoteDisplay
{
    /// <summary>Where it listens and who watches. Under the machine lock.</summary>
    RemoteDisplayInfo Query();

    /// <summary>A viewer that somebody else has connected. Under the machine lock.</summary>
    /// <param name="fd">Its socket, which becomes the server's own.</param>
    /// <param name="asksPassword">False: who connected it vouches for it.</param>
    /// <exception cref="ConfigurationException">It is no connected socket, and still the caller's.</exception>
    void AddClient(int fd, bool asksPassword);

    /// <summary>Of viewers that come from now on; null or nothing lets nobody in. Under the machine lock.</summary>
    /// <returns>False where nobody is asked for one.</returns>
    bool SetPassword(string? password);

    /// <summary>When it ends to be good; null: never. The same.</summary>
    bool ExpirePassword(DateTimeOffset? when);
}

/// <summary>One end of a connection, as query-vnc names it.</summary>
/// <param name="Host">Empty for a UNIX socket.</param>
/// <param name="Service">The port, or a UNIX socket's path.</param>
/// <param name="Family">"ipv4", "ipv6" or "unix".</param>
/// <param name="IsWebSocket">For browsers.</param>
public sealed record EndPointInfo(string Host, string Service, string Family, bool IsWebSocket = false);

/// <summary>How viewers show that they may watch.</summary>
/// <param name="Name">"none", "vnc" or "vencrypt".</param>
/// <param name="Inside">Of vencrypt, inside TLS with certificates: "none" or "vnc"; else null.</param>
public sealed record RemoteAuth(string Name, string? Inside = null)
{
    /// <summary>"x509-none", or null.</summary>
    public string? SubName => Inside == null ? null : $"x509-{Inside}";

    /// <summary>"vencrypt+x509+none", or just the name.</summary>
    public string FullName => Inside == null ? Name : $"{Name}+x509+{Inside}";

    /// <summary>Over a connection that is secret already.</summary>
    public RemoteAuth Plain => new(Inside ?? Name);
}

public sealed record RemoteDisplayInfo(string Id, RemoteAuth Auth, IReadOnlyList<EndPointInfo> Servers,
    IReadOnlyList<EndPointInfo> Clients);

/// <summary>A picture of 32-bit pixels 0x00RRGGBB, rows from top to bottom without padding.</summary>
public sealed class FrameBuffer
{
    public int Width { get; private set; }
    public int Height { get; private set; }

    /// <summary>Width * Height pixels.</summary>
    public Span<uint> Pixels => _pixels.AsSpan(0, Width * Height);

    uint[] _pixels = [];

    public Span<uint> Row(int y) => _pixels.AsSpan(y * Width, Width);

    public void Resize(int width, int height)
    {
        if (width == Width && height == Height) return;
        if (_pixels.Length < width * height) _pixels = new uint[width * height];
        (Width, Height) = (width, height);
        Pixels.Clear();
    }
}
