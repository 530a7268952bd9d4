using Qkvm.Core.Block;
using Qkvm.Core.Devices;

namespace Qkvm.Hw.Storage;

/// <summary>What each disk takes, whatever it is plugged into.</summary>
public static class DiskProperties
{
    public static readonly Property[] All =
    [
        Property.Drive(), Property.Text("serial"), Property.OnOffAuto("write-cache", "data may wait for a flush"),
        Property.Bool("share-rw", false, "others may write, too"),
        Property.Enum("rerror", Property.Auto, [Property.Auto, "report", "ignore", "stop"],
            "what follows when the host cannot read"),
        Property.Enum("werror", Property.Auto, [Property.Auto, "report", "ignore", "stop", "enospc"],
            "what follows when the host cannot write"),
    ];

    /// <summary>The drive, as the properties want it used.</summary>
    public static BlockBackend Take(Properties values, DeviceSite site, string id)
    {
        BlockBackend drive = site.Drive(id);
        drive.WriteCache = values.OnOffAuto("write-cache") ?? drive.WriteCache;
        drive.SharesWrite = values.Bool("share-rw");
        drive.Errors.OnRead = Policy("rerror") ?? drive.Errors.OnRead;
        drive.Errors.OnWrite = Policy("werror") ?? drive.Errors.OnWrite;
        return drive;

        ErrorPolicy? Policy(string name) => values.Text(name) is { } text and not Property.Auto
            ? Enum.Parse<ErrorPolicy>(text, ignoreCase: true) : null;
    }
}
