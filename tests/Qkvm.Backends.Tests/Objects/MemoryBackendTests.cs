using Qkvm.Backends.Objects;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Backends.Tests.Objects;

public sealed class MemoryBackendTests : IDisposable
{
    const ulong Mark = 0x1122334455667788;
    const int MiB = 1 << 20;

    readonly string _directory = Directory.CreateTempSubdirectory("memory").FullName;

    string FilePath => Path.Combine(_directory, "ram");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    static MemoryBackend Make(ObjectModel model, string options) =>
        (MemoryBackend)model.Create(new Properties(model, Options.Parse($"id=m,{options}", "-object")), null!);

    MemoryBackend File(string options) => Make(MemoryBackendFile.Model, $"mem-path={FilePath},{options}");

    [Theory]
    [InlineData(4096)] [InlineData(3 * MiB)]
    public void What_the_guest_writes_is_in_a_shared_file_which_is_made_as_large(int size)
    {
        using MemoryBackend memory = File($"size={size},share=on");
        memory.Ram.Write((ulong)size - 8, 8, Mark);
        byte[] contents = System.IO.File.ReadAllBytes(FilePath);
        Assert.Equal(size, contents.Length);
        Assert.Equal(Mark, BitConverter.ToUInt64(contents, size - 8));
    }

    [Fact]
    public void What_is_in_the_file_is_in_memory_and_a_private_one_is_not_written()
    {
        byte[] contents = new byte[3 * MiB];
        BitConverter.TryWriteBytes(contents, Mark);
        System.IO.File.WriteAllBytes(FilePath, contents);
        using MemoryBackend memory = File("size=3M");
        Assert.Equal(Mark, memory.Ram.Read(0, 8));
        memory.Ram.Write(0, 8, 1);
        memory.Ram.Write(MiB, 8, Mark);
        memory.Ram.Discard(0, 4096);
        Assert.Equal(1UL, memory.Ram.Read(0, 8));
        Assert.Equal(contents, System.IO.File.ReadAllBytes(FilePath));
    }

    [Fact]
    public void Pages_of_a_shared_file_can_be_given_back()
    {
        using MemoryBackend memory = File("size=3M,share=on");
        memory.Ram.Span(0, 3 * MiB).Fill(1);
        memory.Ram.Discard(MiB, MiB);
        Assert.Equal(-1, memory.Ram.Span(MiB, MiB).IndexOfAnyExcept((byte)0));
        Assert.Equal((1, 1), (memory.Ram.Span(0, MiB)[^1], memory.Ram.Span(2 * MiB, MiB)[0]));
        Assert.Equal(0, System.IO.File.ReadAllBytes(FilePath)[MiB]);
    }

    [Theory]
    [InlineData("on", 0)] [InlineData("off", 1)]
    public void The_contents_end_with_the_memory_where_that_is_wished(string discard, byte left)
    {
        using (MemoryBackend memory = File($"size=64k,share=on,discard-data={discard}"))
            memory.Ram.Span(0, 65536).Fill(1);
        Assert.Equal(left, System.IO.File.ReadAllBytes(FilePath)[4096]);
    }

    [Fact]
    public void A_file_in_a_directory_has_no_name()
    {
        using MemoryBackend memory = Make(MemoryBackendFile.Model, $"mem-path={_directory},size=1M");
        Assert.Empty(Directory.GetFileSystemEntries(_directory));
        memory.Ram.Write(0, 8, Mark);
        Assert.Equal(Mark, memory.Ram.Read(0, 8));
    }

    [Fact]
    public void A_smaller_file_with_contents_is_left_as_it_is()
    {
        System.IO.File.WriteAllText(FilePath, "something else");
        Assert.EndsWith("has 14 bytes, not the 1048576 of the memory; name a new or an empty file, or one of that size",
            Refusal(() => File("size=1M,share=on")));
        Assert.Equal("something else", System.IO.File.ReadAllText(FilePath));
    }

    [Fact]
    public void What_cannot_be_made_is_refused_with_the_cure()
    {
        Assert.Equal("-object: cannot open '/nowhere/at/all': No such file or directory; name a file or a directory "
            + "that can be written", Refusal(() => Make(MemoryBackendFile.Model, "mem-path=/nowhere/at/all,size=1M")));
        Assert.EndsWith("name a file or a directory that can be written",
            Refusal(() => Make(MemoryBackendFile.Model, "mem-path=/dev/null,size=1M")));
        Assert.EndsWith("needs mem-path=", Refusal(() => Make(MemoryBackendFile.Model, "size=1M")));
        Assert.EndsWith("needs size=", Refusal(() => File("share=on")));
        Assert.EndsWith("size=5000 is no multiple of 4096 bytes", Refusal(() => File("size=5000")));
        Assert.False(System.IO.File.Exists(FilePath));
        foreach (string missing in new[] { "readonly=on", "pmem=on", "align=2M", "host-nodes=0", "policy=bind" })
            Assert.Contains($"{missing} is not built yet", Refusal(() => File($"size=1M,{missing}")));
    }

    /// <summary>Another mapping of the descriptor sees what the guest wrote, or does not.</summary>
    [Theory]
    [InlineData("", true)] [InlineData(",share=on,seal=off", true)] [InlineData(",share=off", false)]
    public void Memory_with_a_descriptor_is_shared_by_default(string options, bool isShared)
    {
        using MemoryBackend memory = Make(MemoryBackendMemfd.Model, $"size=3M{options}");
        memory.Ram.Write(MiB, 8, Mark);
        using FileStream other = System.IO.File.Open(memory.Ram.File!.HostPath, FileMode.Open, FileAccess.ReadWrite);
        other.Position = MiB;
        byte[] seen = new byte[8];
        other.ReadExactly(seen);
        Assert.Equal(isShared ? Mark : 0, BitConverter.ToUInt64(seen));
        if (options.Contains("seal=off", StringComparison.Ordinal)) other.SetLength(4 * MiB);
        else Assert.ThrowsAny<Exception>(() => other.SetLength(MiB));
    }

    [Fact]
    public void Other_memory_is_shared_where_users_say_so_and_one_kind_always()
    {
        using MemoryBackend own = Make(MemoryBackendRam.Model, "size=3M"),
            shared = Make(MemoryBackendRam.Model, "size=3M,share=on"), always = Make(MemoryBackendRam.Shm, "size=3M");
        Assert.Null(own.Ram.File);
        foreach (MemoryBackend memory in new[] { shared, always })
        {
            memory.Ram.Write(MiB, 8, Mark);
            using FileStream other = System.IO.File.OpenRead(memory.Ram.File!.HostPath);
            Assert.Equal(3 * MiB, other.Length);
            other.Position = MiB;
            byte[] seen = new byte[8];
            other.ReadExactly(seen);
            Assert.Equal(Mark, BitConverter.ToUInt64(seen));
        }
        Assert.Contains("share=off: this memory is always shared", Refusal(() => Make(MemoryBackendRam.Shm,
            "size=3M,share=off")));
    }

    [Fact]
    public void Huge_pages_that_the_host_has_not_are_refused()
    {
        string free = System.IO.File.ReadLines("/proc/meminfo").FirstOrDefault(l =>
            l.StartsWith("HugePages_Free", StringComparison.Ordinal)) ?? "0";
        int pages = int.Parse(free.Split(' ', StringSplitOptions.RemoveEmptyEntries)[^1]);
        Assert.EndsWith("/proc/sys/vm/nr_hugepages", Refusal(() =>
            Make(MemoryBackendMemfd.Model, $"size={2L * MiB * (pages + 1)},hugetlb=on")));
        Assert.EndsWith("is no multiple of 2097152 bytes", Refusal(() =>
            Make(MemoryBackendMemfd.Model, "size=1M,hugetlb=on")));
        Assert.Contains("hugetlbsize=3145728", Refusal(() => Make(MemoryBackendMemfd.Model, "size=6M,hugetlbsize=3M")));
    }

    static string Refusal(Action make) => Assert.Throws<ConfigurationException>(make).Message;
}
