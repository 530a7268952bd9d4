namespace Qkvm.Tests.Control;

/// <summary>Parameters of a migration are kept and answered as by QEMU 7.2.</summary>
public sealed class MigrationSettingsTests : IDisposable
{
    readonly ControlBench _bench = new();

    public void Dispose() => _bench.Dispose();

    string Query() => _bench.Query("query-migrate-parameters").GetRawText();

    void Set(string arguments) => _bench.Query("migrate-set-parameters", arguments);

    [Fact]
    public void What_is_set_is_answered_and_the_rest_stays()
    {
        Assert.Contains("\"compress-threads\":8", Query());
        Assert.Contains("\"tls-creds\":\"\"", Query());
        const string mapping = """
            "block-bitmap-mapping":[{"node-name":"n","alias":"x","bitmaps":[{"name":"a","alias":"b",
            """ + """
            "transform":{"persistent":true}}]}]
            """;
        Set($$"""{"max-bandwidth":1000,{{mapping}}}""");
        string all = Query();
        Assert.Contains(mapping, all);
        Assert.Contains("\"max-bandwidth\":1000", all);
        Assert.Contains("\"downtime-limit\":300", all);
        Assert.EndsWith("block-bitmap-mapping:\n  'n' -> 'x'\n    'a' -> 'b'\n",
            _bench.Human("info migrate_parameters"));
        Set("""{"block-bitmap-mapping":[],"tls-creds":"c"}""");
        Assert.Contains("\"block-bitmap-mapping\":[]", Query());
    }

    [Theory]
    [InlineData("""{"compress-level":10}""", "Parameter 'compress_level' expects a value between 0 and 9")]
    [InlineData("""{"max-cpu-throttle":1}""",
        "Parameter 'max_cpu_throttle' expects an integer in the range of cpu_throttle_initial to 99")]
    [InlineData("""{"downtime-limit":2000001}""",
        "Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms")]
    [InlineData("""{"xbzrle-cache-size":1000}""",
        "Parameter 'xbzrle_cache_size' expects a power of two no less than the target page size")]
    [InlineData("""{"multifd-compression":"x"}""", "Parameter 'multifd-compression' does not accept value 'x'")]
    [InlineData("""{"tls-creds":3}""", "Invalid parameter type for 'tls-creds', expected: StrOrNull")]
    [InlineData("""{"nothing":1}""", "Parameter 'nothing' is unexpected")]
    [InlineData("""{"block-bitmap-mapping":[{"node-name":"n","alias":"","bitmaps":[]}]}""",
        "Invalid mapping given for block-bitmap-mapping: The node alias '' is not well-formed")]
    [InlineData("""
        {"block-bitmap-mapping":[{"node-name":"n","alias":"x","bitmaps":[]},{"node-name":"n","alias":"y","bitmaps":[]}]}
        """, "Invalid mapping given for block-bitmap-mapping: The node name 'n' is mapped twice")]
    [InlineData("""
        {"block-bitmap-mapping":[{"node-name":"n","alias":"x",
        "bitmaps":[{"name":"a","alias":"b"},{"name":"d","alias":"b"}]}]}
        """, "Invalid mapping given for block-bitmap-mapping: The bitmap alias 'x'/'b' is used twice")]
    public void What_cannot_be_says_why(string arguments, string message) =>
        Assert.Equal(message, Assert.ThrowsAny<Exception>(() => Set(arguments)).Message);

    [Theory]
    [InlineData("max-bandwidth 3G", "max-bandwidth: 3221225472 bytes/second\n")]
    [InlineData("max-bandwidth 1", "max-bandwidth: 1048576 bytes/second\n")]
    [InlineData("downtime-limit 0x10", "downtime-limit: 16 ms\n")]
    [InlineData("compress-wait-thread off", "compress-wait-thread: off\n")]
    [InlineData("multifd-compression zlib", "multifd-compression: zlib\n")]
    [InlineData("tls-creds 10", "tls-creds: '10'\n")]
    public void The_human_monitor_sets_and_shows_them(string words, string shown)
    {
        Assert.Equal("", _bench.Human($"migrate_set_parameter {words}"));
        Assert.Contains(shown, _bench.Human("info migrate_parameters"));
    }

    [Theory]
    [InlineData("nothing 3", "Error: invalid parameter value: nothing\n")]
    [InlineData("block-bitmap-mapping 3",
        "Error: The block-bitmap-mapping parameter can only be set through QMP\n")]
    [InlineData("max-bandwidth 1x", "Error: Invalid size 1x\n")]
    [InlineData("compress-wait-thread x", "Error: Parameter 'compress-wait-thread' expects 'on' or 'off'\n")]
    [InlineData("compress-level 10", "Error: Parameter 'compress_level' expects a value between 0 and 9\n")]
    public void The_human_monitor_says_why_not(string words, string message) =>
        Assert.Equal(message, _bench.Human($"migrate_set_parameter {words}"));
}
