using Qkvm.Host.Sockets;
using Qkvm.Storage.Drivers.Nbd;

namespace Qkvm.Storage.Nbd;

/// <summary>What a server has to offer, as qemu-nbd --list prints it.</summary>
public static class NbdListing
{
    static readonly (NbdExportFlags Flag, string Name)[] s_flags =
    [
        (NbdExportFlags.ReadOnly, "readonly"), (NbdExportFlags.SendFlush, "flush"), (NbdExportFlags.SendFua, "fua"),
        (NbdExportFlags.Rotational, "rotational"), (NbdExportFlags.SendTrim, "trim"),
        (NbdExportFlags.SendWriteZeroes, "zeroes"), (NbdExportFlags.SendDf, "df"),
        (NbdExportFlags.CanMultiConn, "multi"), (NbdExportFlags.SendResize, "resize"),
        (NbdExportFlags.SendCache, "cache"), (NbdExportFlags.SendFastZero, "fast-zero"),
    ];

    /// <param name="host">As of <see cref="TlsCredentials"/>.</param>
    /// <exception cref="ConfigurationException">The server is not there, or does not tell.</exception>
    public static void Print(SocketAddress address, TlsCredentials? credentials, string? host, TextWriter output)
    {
        using NbdClientHandshake server = NbdLink.Greet(new NbdTarget(address, "", "", credentials, host));
        IReadOnlyList<NbdExportInfo> exports = server.List();
        server.Abort();
        output.Write($"exports available: {exports.Count}\n");
        foreach (NbdExportInfo export in exports) Print(export, output);
    }

    static void Print(NbdExportInfo export, TextWriter output)
    {
        output.Write($" export: '{Shown(export.Name)}'\n");
        if (export.Description.Length > 0) output.Write($"  description: {Shown(export.Description)}\n");
        if (export.Flags == 0) return;
        output.Write($"  size:  {export.Length}\n  flags: 0x{(ushort)export.Flags:x} (");
        foreach ((NbdExportFlags flag, string name) in s_flags)
            if (export.Has(flag)) output.Write($" {name}");
        output.Write(" )\n");
        if (export.BlockSizes is var (minimum, preferred, maximum))
            output.Write($"  min block: {minimum}\n  opt block: {preferred}\n  max block: {maximum}\n");
        if (export.Contexts.Count == 0) return;
        output.Write($"  available meta contexts: {export.Contexts.Count}\n");
        foreach (string context in export.Contexts) output.Write($"   {Shown(context)}\n");
    }

    /// <summary>A server's words without what would steer a terminal.</summary>
    static string Shown(string text) => string.Concat(text.Select(c => char.IsControl(c) ? '?' : c));
}
