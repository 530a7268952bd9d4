using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Block.Throttling;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Device">The drive's id; or else the device's is given.</param>
/// <param name="Bps">Bytes a second; 0: no limit.</param>
/// <param name="Iops">Requests a second; 0: no limit.</param>
/// <param name="BpsMax">In a burst, which may last so many seconds as …Length says.</param>
/// <param name="IopsSize">Bytes from which on a request counts as several.</param>
/// <param name="Group">Of drives that share the limits.</param>
public sealed record BlockSetIoThrottleArguments(long Bps,
    [property: JsonPropertyName("bps_rd")] long BpsRead, [property: JsonPropertyName("bps_wr")] long BpsWrite,
    long Iops,
    [property: JsonPropertyName("iops_rd")] long IopsRead, [property: JsonPropertyName("iops_wr")] long IopsWrite,
    string? Device = null, string? Id = null,
    [property: JsonPropertyName("bps_max")] long BpsMax = 0,
    [property: JsonPropertyName("bps_rd_max")] long BpsReadMax = 0,
    [property: JsonPropertyName("bps_wr_max")] long BpsWriteMax = 0,
    [property: JsonPropertyName("iops_max")] long IopsMax = 0,
    [property: JsonPropertyName("iops_rd_max")] long IopsReadMax = 0,
    [property: JsonPropertyName("iops_wr_max")] long IopsWriteMax = 0,
    [property: JsonPropertyName("bps_max_length")] long BpsMaxLength = 1,
    [property: JsonPropertyName("bps_rd_max_length")] long BpsReadMaxLength = 1,
    [property: JsonPropertyName("bps_wr_max_length")] long BpsWriteMaxLength = 1,
    [property: JsonPropertyName("iops_max_length")] long IopsMaxLength = 1,
    [property: JsonPropertyName("iops_rd_max_length")] long IopsReadMaxLength = 1,
    [property: JsonPropertyName("iops_wr_max_length")] long IopsWriteMaxLength = 1,
    [property: JsonPropertyName("iops_size")] long IopsSize = 0, string? Group = null)
{
    internal ThrottleLimits Limits => new(new(Bps, BpsMax, BpsMaxLength), new(BpsRead, BpsReadMax, BpsReadMaxLength),
        new(BpsWrite, BpsWriteMax, BpsWriteMaxLength), new(Iops, IopsMax, IopsMaxLength),
        new(IopsRead, IopsReadMax, IopsReadMaxLength), new(IopsWrite, IopsWriteMax, IopsWriteMaxLength), IopsSize);
}

/// <summary>block_set_io_throttle: how fast a disk may be, from now on.</summary>
static class BlockSetIoThrottle
{
    public static readonly Command Command = new Command<BlockSetIoThrottleArguments, Nothing>(
        "block_set_io_throttle", BlockSetIoThrottleJson.Default, static (context, arguments) =>
        {
            BlockDrive drive = BlockDrive.Find(context, arguments.Device, arguments.Id);
            if (!drive.Backend.HasMedium) throw new CommandException("Device has no medium");
            ThrottleLimits limits = arguments.Limits;
            if (limits.Fault is { } fault) throw new CommandException(fault);
            context.Backends.Limit(drive.Backend, limits, arguments.Group, drive.Name);
            return Nothing.Value;
        })
    {
        Human = new("block_set_io_throttle", "device bps bps_rd bps_wr iops iops_rd iops_wr",
            "change I/O throttle limits for a block drive", static words =>
            {
                string device = words.Word("block device name");
                long[] rates = [.. Enumerable.Range(0, 6).Select(_ => (long)words.Number())];
                return new(rates[0], rates[1], rates[2], rates[3], rates[4], rates[5], device);
            }),
        Completes = [Completions.Drives],
    };
}

[JsonSerializable(typeof(BlockSetIoThrottleArguments))]
sealed partial class BlockSetIoThrottleJson : JsonSerializerContext;
