using Qkvm.Core.Block;
using Qkvm.Core.Devices;

namespace Qkvm.Hw.Storage;

/// <summary>What each disk takes, whatever it is plugged into.</summary>
public static class DiskProperties
{
    /// <summary>Also of drives that only report what the host cannot do: floppies.</summary>
    public static readonly Property[] Shared =
    [
        Property.Drive(), Property.OnOffAuto("write-cache", "data may wait for a flush"),
        Property.Bool("share-rw", false, "others may write, too"),
    ];

    public static readonly Property[] All =
    [
        .. Shared, Property.Text("serial"),
        Property.Enum("rerror", Property.Auto, [Property.Auto, "report", "ignore", "stop"],
            "what follows when the host cannot read"),
        Property.Enum("werror", Property.Auto, [Property.Auto, "report", "ignore", "stop", "enospc"],
            "what follows when the host cannot write"),
    ];

    /// <summary>The drive, as the properties want it used.</summary>
    public static BlockBackend Take(Properties values, DeviceSite site, string id)
    {
        BlockBackend drive = TakeShared(values, site.Drive(id));
        drive.Errors.OnRead = Policy("rerror") ?? drive.Errors.OnRead;
        drive.Errors.OnWrite = Policy("werror") ?? drive.Errors.OnWrite;
        return drive;

        ErrorPolicy? Policy(string name) => values.Text(name) is { } text and not Property.Auto
            ? Enum.Parse<ErrorPolicy>(text, ignoreCase: true) : null;
    }

    /// <summary>The drive, as <see cref="Shared"/> want it used.</summary>
    public static BlockBackend TakeShared(Properties values, BlockBackend drive)
    {
        drive.WriteCache = values.OnOffAuto("write-cache") ?? drive.WriteCache;
        drive.SharesWrite = values.Bool("share-rw");
        return drive;
    }
}
