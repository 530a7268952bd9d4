using System.Text.Json;
using Qkvm.Core.Block.Throttling;
using Qkvm.Core.Machine;

namespace Qkvm.Tests.Control;

/// <summary>block_set_io_throttle, and what query-block and `info block` tell then, as QEMU 7.2 does.</summary>
public sealed class ThrottleTests : IDisposable
{
    const string User = "/machine/peripheral/disk0/virtio-backend";

    readonly ControlBench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void A_disk_tells_its_limits_until_they_are_lifted()
    {
        _bench.Query("block_set_io_throttle", Arguments($"\"id\":\"{User}\"",
            ",\"iops_wr\":7,\"iops_wr_max\":14,\"iops_wr_max_length\":3,\"iops_size\":512"));
        JsonElement inserted = _bench.Query("query-block")[0].GetProperty("inserted");
        foreach ((string name, long value) in new[] { ("bps", 100L), ("bps_rd", 0), ("iops", 0), ("iops_wr", 7),
            ("iops_wr_max", 14), ("iops_wr_max_length", 3), ("iops_size", 512) })
            Assert.Equal((name, value), (name, inserted.GetProperty(name).GetInt64()));
        Assert.Equal(User, inserted.GetProperty("group").GetString());
        Assert.False(inserted.TryGetProperty("bps_max", out _));
        Assert.Contains("    I/O throttling:   bps=100 bps_rd=0 bps_wr=0 bps_max=0 bps_rd_max=0 bps_wr_max=0 iops=0 "
            + "iops_rd=0 iops_wr=7 iops_max=0 iops_rd_max=0 iops_wr_max=14 iops_size=512 "
            + $"group={User}\r\n", _bench.Human("info block").ReplaceLineEndings("\r\n"), StringComparison.Ordinal);

        Assert.Equal("", _bench.Human("block_set_io_throttle disk 0 0 0 0 0 0"));
        Assert.False(_bench.Query("query-block")[0].GetProperty("inserted").TryGetProperty("group", out _));
        Assert.DoesNotContain("throttling", _bench.Human("info block"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("\"id\":\"x\"", "", "Device 'x' not found")]
    [InlineData("\"id\":\"x\",\"device\":\"disk\"", "", "Need exactly one of 'device' and 'id'")]
    [InlineData("\"device\":\"disk\"", ",\"bps_rd\":5", "bps/iops/max total values and read/write values cannot be "
        + "used at the same time")]
    public void What_makes_no_sense_is_refused(string device, string rest, string message) =>
        Assert.Equal(message, Assert.ThrowsAny<CommandException>(() =>
            _bench.Query("block_set_io_throttle", Arguments(device, rest))).Message);

    [Fact]
    public void Drives_of_one_group_share_what_was_said_last()
    {
        _bench.OnLoop(() =>
        {
            ThrottleLimits Limits(long requests) => ThrottleLimits.None with { RequestsTotal = new(requests) };
            var other = new Core.Block.BlockBackend("other", _bench.Environment.Loop.Post);
            _bench.Backends.Drives["other"] = other;
            _bench.Backends.Limit(_bench.Backends.Drives["disk"], Limits(5), "g", "disk");
            _bench.Backends.Limit(other, Limits(9), "g", "other");
        });
        Assert.Equal(9, _bench.Query("query-block")[0].GetProperty("inserted").GetProperty("iops").GetInt64());
    }

    static string Arguments(string device, string rest)
    {
        string given = device + rest;
        string[] others = [.. new[] { "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr" }
            .Where(name => !given.Contains($"\"{name}\"", StringComparison.Ordinal)).Select(name => $"\"{name}\":0")];
        return $"{{{given.Trim()},\"bps\":100,{string.Join(',', others)}}}";
    }
}
