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
    }

    /// <summary>As QEMU 7.2 says it, and QEMU 8.2 of rom= and offset=.</summary>
    [Theory]
    [InlineData("pmem=on", "Lack of libpmem support while setting the 'pmem=on' of memory-backend-file; "
        + "We can't ensure data persistence.")]
    [InlineData("align=3", "alignment 0x3 must be multiples of page size 0x1000, and a power of two")]
    [InlineData("align=12k", "alignment 0x3000 must be multiples of page size 0x1000, and a power of two")]
    [InlineData("offset=100", "offset=100 is no multiple of 4096 bytes")]
    [InlineData("rom=on", "property 'rom' = 'on' is not supported with 'readonly' = 'off'")]
    [InlineData("readonly=on,rom=off,share=on",
        "property 'rom' = 'off' is incompatible with 'readonly' = 'on' and 'share' = 'on'")]
    [InlineData("readonly=on", "No such file or directory; name a file that can be read")]
    [InlineData("host-nodes=0", "host-nodes must be empty for policy default, or you should explicitly specify a "
        + "policy other than default")]
    [InlineData("policy=bind", "host-nodes must be set for policy bind")]
    [InlineData("policy=bind,host-nodes=500", "Invalid host-nodes value: 500")]
    [InlineData("policy=bind,host-nodes=2-1", "host-nodes=2-1: expects a number or a range such as 0-3")]
    [InlineData("policy=foo", "policy=foo: one of default, preferred, bind, interleave is expected")]
    [InlineData("prealloc=on,reserve=off", "'prealloc=on' and 'reserve=off' are incompatible")]
    [InlineData("prealloc-threads=0", "prealloc-threads=0 is not in 1 to 4294967295")]
    [InlineData("prealloc-context=x", "prealloc-context=x is not built yet; leave it out")]
    public void What_memory_cannot_be_is_refused(string options, string message)
    {
        Assert.EndsWith(message, Refusal(() => File($"size=1M,{options}")));
        Assert.Empty(System.IO.File.Exists(FilePath) ? System.IO.File.ReadAllBytes(FilePath) : []);
    }

    [Fact]
    public void A_file_that_stays_as_it_is_is_memory_with_pages_of_its_own()
    {
        System.IO.File.WriteAllBytes(FilePath, new byte[3 * MiB]);
        using MemoryBackend memory = File("size=1M,offset=1M,readonly=on,rom=off,align=4M,x-use-canonical-path-for-"
            + "ramblock-id=on");
        memory.Prepare(message => new InvalidOperationException(message));
        memory.Ram.Write(8, 8, Mark);
        Assert.Equal((Mark, 0UL), (memory.Ram.Read(8, 8), memory.Ram.HostAddress % (4 * MiB)));
        Assert.All(System.IO.File.ReadAllBytes(FilePath), value => Assert.Equal(0, value));
        Assert.Equal("/objects/m", memory.Ram.Name);
        using MemoryBackend rom = File("size=1M,readonly=on");
        Assert.EndsWith("is read-only; give it rom=off, and the guest writes to pages of its own",
            Assert.Throws<InvalidOperationException>(() => rom.Prepare(m => new InvalidOperationException(m))).Message);
    }

    [Fact]
    public void Memory_begins_where_offset_says()
    {
        using (MemoryBackend memory = File("size=1M,offset=2M,share=on")) memory.Ram.Write(16, 8, Mark);
        byte[] contents = System.IO.File.ReadAllBytes(FilePath);
        Assert.Equal((3 * (int)MiB, Mark), (contents.Length, BitConverter.ToUInt64(contents, 2 * (int)MiB + 16)));
    }

    [Theory]
    [InlineData("shm", "")] [InlineData("ram", ",share=on")]
    public void Shared_memory_without_a_name_has_a_descriptor(string kind, string options)
    {
        using MemoryBackend memory = Make(kind == "shm" ? MemoryBackendShm.Model : MemoryBackendRam.Model,
            $"size=1M{options}");
        Assert.True(memory.Ram.File!.IsShared);
        memory.Ram.Write(MiB - 8, 8, Mark);
        using FileStream other = System.IO.File.Open(memory.Ram.File.HostPath, FileMode.Open, FileAccess.Read);
        Assert.Equal((long)MiB, other.Length);
        other.Position = (long)MiB - 8;
        byte[] seen = new byte[8];
        other.ReadExactly(seen);
        Assert.Equal(Mark, BitConverter.ToUInt64(seen));
    }

    [Fact]
    public void Memory_that_must_not_be_shared_is_no_shared_memory() =>
        Assert.EndsWith("share=off: this memory is shared; use memory-backend-ram",
            Refusal(() => Make(MemoryBackendShm.Model, "size=1M,share=off")));

    /// <summary>On a host without NUMA the kernel refuses, and that is told.</summary>
    [Fact]
    public void Memory_lies_on_the_hosts_nodes_that_users_name()
    {
        bool hasNodes = Directory.Exists("/sys/devices/system/node/node0");
        if (!hasNodes)
        {
            Assert.Contains("cannot bind memory to host NUMA nodes",
                Refusal(() => Make(MemoryBackendRam.Model, "size=1M,policy=bind,host-nodes=0")));
            return;
        }
        using MemoryBackend memory = Make(MemoryBackendRam.Model, "size=4M,policy=bind,host-nodes=0");
        Assert.Equal(Qkvm.Host.HostPolicy.Bind, memory.Policy);
        Assert.Equal([0], memory.HostNodes);
        string line = System.IO.File.ReadLines("/proc/self/numa_maps")
            .First(l => l.StartsWith($"{memory.Ram.HostAddress:x}", StringComparison.Ordinal));
        Assert.Contains("bind:0", line);
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
            shared = Make(MemoryBackendRam.Model, "size=3M,share=on"), always = Make(MemoryBackendShm.Model, "size=3M");
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
        Assert.Contains("share=off: this memory is shared", Refusal(() => Make(MemoryBackendShm.Model,
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
