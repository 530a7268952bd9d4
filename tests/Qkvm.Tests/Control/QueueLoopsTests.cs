using Qkvm.Core.Block;
using Qkvm.Testing;

namespace Qkvm.Tests.Control;

/// <summary>iothread-vq-mapping= of virtio disks.</summary>
public sealed class QueueLoopsTests : IDisposable
{
    readonly ControlBench _bench = new();

    public QueueLoopsTests()
    {
        var spare = new BlockBackend("spare", _bench.Environment.Loop.Post);
        spare.Insert(new MemoryDisk(1 << 20));
        _bench.Backends.Drives["spare"] = spare;
        foreach (string id in (string[])["t0", "t1"])
            _bench.Query("object-add", $$"""{"qom-type":"iothread","id":"{{id}}"}""");
    }

    public void Dispose() => _bench.Dispose();

    void Add(string mapping, string more = "") => _bench.Query("device_add", $$"""
        {"driver":"virtio-blk-pci","drive":"spare","id":"new","num-queues":3,"iothread-vq-mapping":{{mapping}}{{more}}}
        """);

    string Error(string name, string arguments) =>
        Assert.ThrowsAny<Exception>(() => _bench.Query(name, arguments)).Message;

    [Theory]
    [InlineData("""[{"iothread":"t0"},{"iothread":"t1"}]""")]
    [InlineData("""[{"iothread":"t0","vqs":[0,2]},{"iothread":"t1","vqs":[1]}]""")]
    public void A_disk_keeps_the_threads_of_its_queues(string mapping)
    {
        Add(mapping);
        foreach (string id in (string[])["t0", "t1"])
            Assert.Equal($"object '{id}' is in use, can not be deleted",
                Error("object-del", $$"""{"id":"{{id}}"}"""));
    }

    [Theory]
    [InlineData("""[{"vqs":[0]}]""", "iothread=")]
    [InlineData("""[{}]""", "needs iothread-vq-mapping.0.iothread=")]
    [InlineData("""[{"iothread":"t0"},{}]""", "needs iothread-vq-mapping.1.iothread=")]
    [InlineData("[]", "iothread-vq-mapping is empty")]
    [InlineData("{}", "iothread-vq-mapping is empty")]
    [InlineData("""["t0"]""", "is no object")]
    [InlineData("""[{"iothread":"t9"}]""", "t9")]
    [InlineData("""[{"iothread":"t0"},{"iothread":"t0"}]""", "duplicate IOThread name \"t0\"")]
    [InlineData("""[{"iothread":"t0","vqs":[0,1,2]},{"iothread":"t1"}]""", "either all items")]
    [InlineData("""[{"iothread":"t0","vqs":[0,1,3]}]""",
        "vq index 3 for IOThread \"t0\" must be less than num_queues 3")]
    [InlineData("""[{"iothread":"t0","vqs":[-1]}]""", "vq index -1")]
    [InlineData("""[{"iothread":"t0","vqs":[0,1]},{"iothread":"t1","vqs":[1]}]""",
        "cannot assign vq 1 to IOThread \"t1\" because it is already assigned")]
    [InlineData("""[{"iothread":"t0","vqs":[0,2]}]""", "missing vq 1 IOThread assignment")]
    [InlineData("""[{"iothread":"t0","queues":[0]}]""", "invalid parameter")]
    public void What_does_not_fit_is_refused_and_the_threads_stay_free(string mapping, string message)
    {
        Assert.Contains(message, Assert.ThrowsAny<Exception>(() => Add(mapping)).Message);
        Assert.Null(_bench.Backends.OwnerOfDrive("spare"));
        _bench.Query("object-del", """{"id":"t0"}""");
    }

    [Fact]
    public void One_thread_for_all_and_one_for_each_exclude_each_other() => Assert.Contains("cannot be set at the same",
        Assert.ThrowsAny<Exception>(() => Add("""[{"iothread":"t0"}]""", ""","iothread":"t1" """)).Message);
}
