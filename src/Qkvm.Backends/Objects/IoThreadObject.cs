using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Backends.Objects;

/// <summary>-object iothread: a thread that moves the data of the devices that name it.</summary>
public static class IoThreadObject
{
    public static readonly ObjectModel Model = new("iothread",
        [
            Property.Number("poll-max-ns", (ulong)IoThread.DefaultPoll, 0, 1_000_000_000,
                "nanoseconds that it may look for work before it sleeps"),
            Property.Missing("poll-grow", "0"), Property.Missing("poll-shrink", "0"),
            Property.Missing("aio-max-batch", "0"), Property.Missing("thread-pool-min", "0"),
            Property.Missing("thread-pool-max", "64"),
        ],
        static (properties, _) => new IoThread(properties.Required("id"), (long)properties.Number("poll-max-ns")))
        { Description = "a thread that moves data of devices" };
}
