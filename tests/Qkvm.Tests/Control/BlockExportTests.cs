using System.Text.Json;
using Qkvm.Control;
using Qkvm.Core.Block;
using Qkvm.Core.Machine;
using Qkvm.Storage.Graph;

namespace Qkvm.Tests.Control;

/// <summary>A machine serves its nodes to other programs, by the commands of QMP and of the human monitor.</summary>
public sealed class BlockExportTests : IDisposable
{
    readonly ControlBench _bench = new();
    readonly string _directory = Directory.CreateTempSubdirectory("qkvm-nbd-").FullName;
    readonly List<MachineEvent> _events = [];

    public BlockExportTests()
    {
        File.WriteAllBytes(Image, [.. Enumerable.Range(0, 65_536).Select(i => (byte)(i / 512))]);
        _bench.OnLoop(() => _bench.Machine.Events.Raised += _events.Add);
        _bench.Query("blockdev-add", $$"""{"driver":"file","node-name":"n","filename":"{{Image}}"}""");
    }

    string Image => Path.Combine(_directory, "disk");
    string Socket => Path.Combine(_directory, "nbd");

    public void Dispose()
    {
        _bench.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    void Start() => _bench.Query("nbd-server-start",
        $$$"""{"addr":{"type":"unix","data":{"path":"{{{Socket}}}"}},"max-connections":5}""");

    string Error(string name, string arguments) =>
        Assert.ThrowsAny<Exception>(() => _bench.Query(name, arguments)).Message;

    byte[] Read(string export)
    {
        var factory = new BlockFactory(Catalogue.BlockDrivers, _ => { });
        BlockDriver disk = factory.OpenImage($"nbd+unix:///{export}?socket={Socket}", new ImageOpening("raw"));
        var data = new byte[1024];
        disk.ReadAsync(512, new ScatterList(data)).AsTask().GetAwaiter().GetResult();
        disk.DisposeAsync().AsTask().GetAwaiter().GetResult();
        return data;
    }

    [Fact]
    public void An_export_is_served_until_it_is_removed_and_then_its_node_is_free()
    {
        Start();
        _bench.Query("block-export-add", """{"type":"nbd","id":"e","node-name":"n","name":"x","writable":true}""");
        Assert.Equal("""[{"node-name":"n","shutting-down":false,"type":"nbd","id":"e"}]""",
            _bench.Query("query-block-exports").GetRawText());
        byte[] read = Read("x");
        Assert.Equal((1, 2), (read[0], read[512]));
        Assert.Equal("Node n is in use", Error("blockdev-del", """{"node-name":"n"}"""));
        _bench.Query("block-export-del", """{"id":"e"}""");
        Assert.True(SpinWait.SpinUntil(() => _bench.OnLoop(() => _events.OfType<BlockExportDeletedEvent>().Any()),
            TimeSpan.FromSeconds(20)));
        Assert.Equal("[]", _bench.Query("query-block-exports").GetRawText());
        _bench.Query("nbd-server-stop");
        _bench.Query("blockdev-del", """{"node-name":"n"}""");
        Assert.False(File.Exists(Socket));
    }

    [Fact]
    public void What_cannot_be_is_told_in_qemus_words()
    {
        Assert.Equal("NBD server not running", Error("nbd-server-stop", "{}"));
        Assert.Equal("NBD server not running",
            Error("block-export-add", """{"type":"nbd","id":"e","node-name":"n"}"""));
        Start();
        Assert.Equal("NBD server already running",
            Error("nbd-server-start", """{"addr":{"type":"unix","data":{"path":"/x"}}}"""));
        Assert.Equal("Cannot find device='' nor node-name='z'",
            Error("block-export-add", """{"type":"nbd","id":"e","node-name":"z"}"""));
        Assert.Equal("Bitmap 'b' is not found",
            Error("block-export-add", """{"type":"nbd","id":"e","node-name":"n","bitmaps":["b"]}"""));
        _bench.Query("block-export-add", """{"type":"nbd","id":"e","node-name":"n"}""");
        Assert.Equal("Block export id 'e' is already in use",
            Error("block-export-add", """{"type":"nbd","id":"e","node-name":"n"}"""));
        Assert.Equal("NBD server already has export named 'n'", Error("nbd-server-add", """{"device":"n"}"""));
        Assert.Equal("Export 'z' is not found", Error("block-export-del", """{"id":"z"}"""));
        _bench.Query("nbd-server-stop");
        Assert.Single(_events.OfType<BlockExportDeletedEvent>());
    }

    [Fact]
    public void A_server_that_stops_waits_for_what_is_going_and_tells_of_each_export_once()
    {
        for (int round = 0; round < 20; round++)
        {
            Start();
            foreach (string id in new[] { "a", "b", "c" })
                _bench.Query("block-export-add", $$"""{"type":"nbd","id":"{{id}}","node-name":"n","name":"{{id}}"}""");
            _bench.Query("block-export-del", """{"id":"b"}""");
            _bench.Query("nbd-server-stop");
            Assert.Equal("[]", _bench.Query("query-block-exports").GetRawText());
            Assert.True(SpinWait.SpinUntil(() => _bench.OnLoop(() => _events.Count >= 3), TimeSpan.FromSeconds(20)));
            Assert.Equal(["a", "b", "c"], _events.OfType<BlockExportDeletedEvent>().Select(one => one.Id).Order());
            _bench.OnLoop(_events.Clear);
        }
    }

    [Fact]
    public void People_have_short_commands_for_it()
    {
        Assert.Contains("-w only valid together with -a", _bench.Human("nbd_server_start -w 127.0.0.1:0"));
        Assert.Equal("", _bench.Human($"nbd_server_start unix:{Socket}"));
        Assert.Equal("", _bench.Human("nbd_server_add -w n y"));
        Assert.Equal(1, Read("y")[0]);
        Assert.Equal("", _bench.Human("nbd_server_remove -f y"));
        Assert.Equal("", _bench.Human("nbd_server_stop"));
        Assert.Contains("NBD server not running", _bench.Human("nbd_server_stop"));
    }
}
