using Qkvm.Core.Block;
using Qkvm.Core.Machine;

namespace Qkvm.Tests.Control;

/// <summary>-object throttle-group and the filter throttle, as QEMU 7.2 answers.</summary>
public sealed class ThrottleGroupTests : IDisposable
{
    readonly ControlBench _bench = new();

    public void Dispose() => _bench.Dispose();

    void AddGroup(string limits = """{"iops-total":100}""", string id = "g0") =>
        _bench.Query("object-add", $$"""{"qom-type":"throttle-group","id":"{{id}}","limits":{{limits}} }""");

    void AddFilter(string node = "t0", string group = "g0") => _bench.Query("blockdev-add",
        $$"""{"driver":"throttle","node-name":"{{node}}","throttle-group":"{{group}}","file":{"driver":"null-co"} }""");

    long Limit(string name, string id = "g0") =>
        _bench.Query("qom-get", $$"""{"path":"/objects/{{id}}","property":"limits"}""").GetProperty(name).GetInt64();

    void SetLimits(string limits) =>
        _bench.Query("qom-set", $$"""{"path":"/objects/g0","property":"limits","value":{{limits}} }""");

    string Error(Action action) => Assert.ThrowsAny<Exception>(action).Message;

    [Fact]
    public void Limits_are_told_and_changed_one_by_one()
    {
        AddGroup("""{"iops-total":5,"iops-total-max":10,"iops-total-max-length":3}""");
        SetLimits("""{"bps-total":4096}""");
        Assert.Equal((4096, 0, 1, 5, 10, 3, 0), (Limit("bps-total"), Limit("bps-total-max"),
            Limit("bps-total-max-length"), Limit("iops-total"), Limit("iops-total-max"),
            Limit("iops-total-max-length"), Limit("iops-size")));
        Assert.Equal("10", _bench.Query("qom-get", """{"path":"/objects/g0","property":"x-iops-total-max"}""")
            .GetRawText());
        Assert.Equal("Property cannot be set after initialization", Error(() =>
            _bench.Query("qom-set", """{"path":"/objects/g0","property":"x-iops-total","value":7}""")));
    }

    [Theory]
    [InlineData("""{"iops-read":5}""", "bps/iops/max total values and read/write values cannot be used at the same "
        + "time")]
    [InlineData("""{"iops-totl":5}""", "Parameter 'limits.iops-totl' is unexpected")]
    [InlineData("""{"iops-total":"x"}""", "Invalid parameter type for 'limits.iops-total', expected: integer")]
    [InlineData("""{"iops-total":-5}""", "bps/iops/max values must be within [0, 1000000000000000]")]
    [InlineData("5", "Invalid parameter type for 'limits', expected: object")]
    public void Limits_that_make_no_sense_are_refused_and_change_nothing(string limits, string message)
    {
        AddGroup();
        Assert.Equal(message, Error(() => SetLimits(limits)));
        Assert.Equal(100, Limit("iops-total"));
    }

    [Theory]
    [InlineData("""{"iops-total":3,"iops-read":4}""", "bps/iops/max total values and read/write values cannot be used "
        + "at the same time")]
    [InlineData("3", "Invalid parameter type for 'limits', expected: object")]
    [InlineData("""{"iops-foo":3}""", "invalid parameter 'limits.iops-foo'")]
    public void A_group_with_senseless_limits_is_not_made(string limits, string message)
    {
        Assert.Equal(message, Error(() => AddGroup(limits)));
        AddGroup();
    }

    [Fact]
    public void A_group_in_use_stays_and_a_node_changes_to_another()
    {
        AddGroup();
        AddGroup("""{"bps-total":5000}""", "g1");
        AddFilter();
        Assert.Equal("object 'g0' is in use, can not be deleted", Error(() => Delete("g0")));
        Reopen("g1");
        Delete("g0");
        Assert.Equal("object 'g1' is in use, can not be deleted", Error(() => Delete("g1")));
        Assert.Equal("Throttle group 'g0' does not exist", Error(() => Reopen("g0")));
        _bench.Query("blockdev-del", """{"node-name":"t0"}""");
        Delete("g1");
    }

    [Fact]
    public void A_reopening_that_fails_leaves_the_group_as_it_was()
    {
        AddGroup();
        AddGroup("""{"bps-total":5000}""", "g1");
        AddFilter("t0");
        AddFilter("t1");
        Assert.Equal("Throttle group 'g9' does not exist", Error(() => _bench.Query("blockdev-reopen",
            """
            {"options":[
            {"driver":"throttle","node-name":"t0","throttle-group":"g1","file":{"driver":"null-co"}},
            {"driver":"throttle","node-name":"t1","throttle-group":"g9","file":{"driver":"null-co"}}]}
            """)));
        Delete("g1");
        Assert.Equal("object 'g0' is in use, can not be deleted", Error(() => Delete("g0")));
    }

    [Fact]
    public void Reopening_needs_the_group()
    {
        AddGroup();
        _bench.Query("blockdev-add", """{"driver":"null-co","node-name":"n"}""");
        _bench.Query("blockdev-add",
            """{"driver":"throttle","node-name":"t0","throttle-group":"g0","file":"n"}""");
        Assert.Equal("Parameter 'options[0].throttle-group' is missing", Error(() => _bench.Query("blockdev-reopen",
            """{"options":[{"driver":"throttle","node-name":"t0","file":"n"}]}""")));
    }

    [Fact]
    public void Drives_and_nodes_share_groups_by_their_names()
    {
        AddGroup();
        BlockBackend drive = _bench.Backends.Drives["disk"];
        Throttle("g0", 50);
        Assert.Equal(50, Limit("iops-total"));
        Assert.Equal("object 'g0' is in use, can not be deleted", Error(() => Delete("g0")));
        Throttle("of-drives", 7);
        Delete("g0");
        AddFilter(group: "of-drives");
        Assert.Equal(2, _bench.OnLoop(() => drive.Throttle!.Group.MemberCount));
        Assert.Equal("A group with this name already exists", Error(() => AddGroup(id: "of-drives")));
        Throttle("of-drives", 0);
        Assert.Null(_bench.OnLoop(() => drive.Throttle));
        _bench.Query("blockdev-del", """{"node-name":"t0"}""");
        AddGroup(id: "of-drives");
    }

    void Throttle(string group, int requests) => _bench.Query("block_set_io_throttle",
        $$"""
        {"device":"disk","bps":0,"bps_rd":0,"bps_wr":0,"iops":{{requests}},"iops_rd":0,"iops_wr":0,"group":"{{group}}"}
        """);

    void Delete(string id) => _bench.Query("object-del", $$"""{"id":"{{id}}"}""");

    void Reopen(string group) => _bench.Query("blockdev-reopen",
        $$"""
        {"options":[{"driver":"throttle","node-name":"t0","throttle-group":"{{group}}","file":{"driver":"null-co"} }]}
        """);
}
