using System.Diagnostics;
using Qkvm.Core.Block;
using Qkvm.Testing;

namespace Qkvm.Storage.Tests;

/// <summary>NBD with other people's clients and servers.</summary>
public class NbdInteropTests
{
    const int Size = 16 << 20;

    static string? Without(string program) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Append("/usr/sbin")
            .Any(directory => File.Exists(Path.Combine(directory, program))) ? null : $"{program} is not installed";

    sealed class NeedsFactAttribute(string program) : ConditionalFactAttribute(Without(program));

    static byte[] MakeDisk(string path)
    {
        byte[] data = new byte[Size];
        BlockDriverExtensions.Pattern(1, 3 << 20).CopyTo(data, 1 << 20);
        using FileStream file = File.Create(path);                 // sparse
        file.SetLength(Size);
        file.Position = 1 << 20;
        file.Write(data, 1 << 20, 3 << 20);
        return data;
    }

    static string Run(string program, params string[] arguments)
    {
        (int code, string output) = QemuTools.Run(program, arguments);
        Assert.True(code == 0, $"{program} {string.Join(' ', arguments)}: {code}\n{output}");
        return output;
    }

    [NeedsFact("qemu-io")]
    public void Qemus_client_reads_and_writes_what_we_serve()
    {
        using var bench = new NbdBench();
        MakeDisk(bench.Scratch["disk"]);
        bench.Serve("disk");
        Run("qemu-io", "-f", "raw", "-c", "write -P 90 3M 5M", "-c", "write -z 10M 1M", "-c", "discard 11M 1M", "-c",
            "write -f -P 1 100 1000", "-c", "flush", "-c", "read -P 90 3M 5M", "-c", "read -P 0 10M 1M", bench.Uri);
        byte[] now = File.ReadAllBytes(bench.Scratch["disk"]);
        Assert.Equal((90, 90, 1, 0), (now[3 << 20], now[(8 << 20) - 1], now[100], now[10 << 20]));
        Assert.Contains("virtual size: 16 MiB", Run("qemu-img", "info", bench.Uri));
    }

    [NeedsFact("qemu-img")]
    public void Qemus_client_sees_which_parts_of_a_qcow2_image_are_there()
    {
        using var bench = new NbdBench();
        Run("qemu-img", "create", "-f", "qcow2", bench.Scratch["disk"], "16M");
        Run("qemu-io", "-f", "qcow2", "-c", "write -P 1 4M 1M", bench.Scratch["disk"]);
        string before = Run("qemu-img", "map", "--output=json", "-f", "qcow2", bench.Scratch["disk"]);
        bench.Serve("disk", "qcow2", isWritable: false);
        string through = Run("qemu-img", "map", "--output=json", "-f", "raw", bench.Uri);
        Assert.Equal(3, before.Trim().Split('\n').Length);
        Assert.Equal(3, through.Trim().Split('\n').Length);
        Assert.Contains("\"start\": 4194304, \"length\": 1048576, \"depth\": 0, \"present\": true, \"zero\": false",
            through);
    }

    [NeedsFact("nbdinfo")]
    public void Libnbd_is_told_what_the_export_can()
    {
        using var bench = new NbdBench();
        MakeDisk(bench.Scratch["disk"]);
        bench.Serve("disk", showsDepth: true);
        string output = Run("nbdinfo", bench.Uri);
        foreach (string line in new[] { "protocol: newstyle-fixed without TLS, using structured packets",
            "description: a test", "export-size: 16777216 (16M)", "base:allocation", "qemu:allocation-depth",
            "can_df: true", "can_fast_zero: true", "can_multi_conn: true", "block_size_maximum: 33554432" })
            Assert.Contains(line, output);
        (int code, output) = QemuTools.Run("nbdinfo", bench.Uri.Replace("///", "///none"));
        Assert.Equal(1, code);
        Assert.Contains("server replied with error to opt_go request: No such file or directory", output);
    }

    /// <summary>What a client is told of an overlay, of what was written since a bitmap was made, and of a bitmap of
    /// the layer below.</summary>
    [NeedsFact("nbdinfo")]
    public void Libnbd_maps_each_context_as_QEMU_serves_it()
    {
        using var bench = new NbdBench();
        string below = bench.Scratch["below"], disk = bench.Scratch["disk"];
        QemuTools.Img("create", "-q", "-f", "qcow2", below, "8M");
        QemuTools.Io(below, "write 0 1M");
        QemuTools.Img("bitmap", "--add", "-g", "64k", below, "deep");
        QemuTools.Io(below, "write 6M 64k");
        QemuTools.Img("create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", disk);
        QemuTools.Img("bitmap", "--add", "-g", "64k", disk, "new");
        QemuTools.Img("bitmap", "--add", "--disable", "-g", "128k", disk, "empty");
        QemuTools.Io(disk, "write 2M 256k", "write 4M 64k", "write -z 5M 64k");
        string[] bitmaps = ["new", "empty", "deep"], contexts = ["base:allocation", "qemu:allocation-depth",
            .. bitmaps.Select(name => $"qemu:dirty-bitmap:{name}")];

        string socket = bench.Scratch["qemu.sock"];
        using (System.Diagnostics.Process qemu = QemuTools.Start("qemu-nbd",
            ["-t", "-r", "-A", "-k", socket, "-f", "qcow2", .. bitmaps.SelectMany(name => new[] { "-B", name }), disk]))
            try
            {
                Assert.True(SpinWait.SpinUntil(() => Listens(socket), TimeSpan.FromMinutes(1)));
                string[] expected = [.. contexts.Select(one => Run("nbdinfo", $"--map={one}",
                    $"nbd+unix:///?socket={socket}"))];
                bench.Serve("disk", "qcow2", isWritable: false, showsDepth: true, bitmaps);
                for (int i = 0; i < contexts.Length; i++)
                    Assert.Equal(expected[i], Run("nbdinfo", $"--map={contexts[i]}", bench.Uri));
            }
            finally { qemu.Kill(); }
        Assert.Contains("Bitmap 'none' is not found", Assert.Throws<ConfigurationException>(
            () => bench.Serve("disk", "qcow2", isWritable: false, showsDepth: false, "none")).Message);
    }

    [NeedsFact("nbdcopy")]
    public void Nbdcopy_copies_in_and_out_over_several_connections()
    {
        using var bench = new NbdBench();
        byte[] data = MakeDisk(bench.Scratch["disk"]);
        bench.Serve("disk");
        Run("nbdcopy", bench.Uri, bench.Scratch["copy"]);
        Assert.Equal(data, File.ReadAllBytes(bench.Scratch["copy"]));
        File.WriteAllBytes(bench.Scratch["other"], BlockDriverExtensions.Pattern(2, Size));
        Run("nbdcopy", "--flush", bench.Scratch["other"], bench.Uri);
        Assert.Equal(File.ReadAllBytes(bench.Scratch["other"]), File.ReadAllBytes(bench.Scratch["disk"]));
    }

    [NeedsFact("nbd-client")]
    public void The_kernels_client_gets_through_the_handshake()
    {
        using var bench = new NbdBench();
        MakeDisk(bench.Scratch["disk"]);
        bench.Serve("disk");
        (_, string output) = QemuTools.Run("/usr/sbin/nbd-client", "-unix", bench.Socket, "/dev/nbd0");
        Assert.Contains("Negotiation: ..size = 16MB", output);
    }

    /// <summary>Its file is there before it takes clients, which the kernel tells: proc_net(5), SO_ACCEPTCON.</summary>
    static bool Listens(string path) => File.ReadLines("/proc/net/unix").Any(line =>
        line.EndsWith(" " + path, StringComparison.Ordinal) && line.Split(' ')[3] == "00010000");

    static async Task WithServer(string socket, string program, string[] arguments, Func<Task> work)
    {
        using Process server = QemuTools.Start(program, arguments);
        try
        {
            Assert.True(SpinWait.SpinUntil(() => Listens(socket), TimeSpan.FromSeconds(20)));
            await work();
        }
        finally
        {
            server.Kill();
            server.WaitForExit();
        }
    }

    [NeedsFact("qemu-nbd")]
    public async Task Qemus_server_serves_our_disk()
    {
        using var scratch = new Scratch();
        byte[] data = MakeDisk(scratch["disk"]);
        string socket = scratch["s"];
        await WithServer(socket, "qemu-nbd", ["-f", "raw", "-t", "-x", "e", "-k", socket, scratch["disk"]], async () =>
        {
            await using BlockDriver disk = NbdBench.Client(socket, ",export=e");
            Assert.Equal(data, await disk.Read(0, Size));
            await disk.Write(5000, BlockDriverExtensions.Pattern(3, 100_000));
            await disk.WriteZeroesAsync(1 << 20, 1 << 20, mayUnmap: true);
            await disk.FlushAsync();
            BlockStatus status = await disk.StatusAsync(8 << 20, 4 << 20);
            Assert.True(status is { IsZero: true, Length: 4 << 20 });
        });
        byte[] now = File.ReadAllBytes(scratch["disk"]);
        Assert.Equal(BlockDriverExtensions.Pattern(3, 100_000), now[5000..105_000]);
        Assert.Equal(new byte[1 << 20], now[(1 << 20)..(2 << 20)]);
    }

    [NeedsFact("nbdkit")]
    public async Task A_server_that_takes_whole_blocks_alone_gets_whole_blocks()
    {
        using var scratch = new Scratch();
        byte[] data = MakeDisk(scratch["disk"]);
        string socket = scratch["s"];
        await WithServer(socket, "nbdkit", ["-f", "-U", socket, "--filter=blocksize-policy", "file", scratch["disk"],
            "blocksize-minimum=4096", "blocksize-preferred=4096", "blocksize-maximum=1M",
            "blocksize-error-policy=error"], async () =>
        {
            await using BlockDriver disk = NbdBench.Client(socket, "");
            Assert.Equal(data[1_048_000..1_058_001], await disk.Read(1_048_000, 10_001));
            await disk.Write(4097, BlockDriverExtensions.Pattern(4, 3_000_001));
            Assert.Equal(BlockDriverExtensions.Pattern(4, 3_000_001), await disk.Read(4097, 3_000_001));
            Assert.Equal(data[..4097], await disk.Read(0, 4097));
        });
    }
}
