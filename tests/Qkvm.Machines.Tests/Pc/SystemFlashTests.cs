using Qkvm.Core.Block;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Testing;

namespace Qkvm.Machines.Tests.Pc;

public class SystemFlashTests
{
    const ulong FourGiB = 1UL << 32, MiB = 1 << 20;

    static MachineBackends Drives(params (string Id, long Size)[] drives)
    {
        var backends = new MachineBackends();
        foreach ((string id, long size) in drives)
        {
            var disk = new MemoryDisk(size);
            new Random((int)size).NextBytes(disk.Bytes);
            var drive = new BlockBackend(id, static action => action()) { Description = $"{id}.fd" };
            drive.Insert(disk);
            backends.Drives[id] = drive;
        }
        return backends;
    }

    static MachineConfig With(MachineConfig config, string options) =>
        config with { MachineOptions = Options.Parse(options, $"-machine {options}") };

    static byte[] Bytes(MachineBackends backends, string id) => ((MemoryDisk)backends.Drives[id].Root!).Bytes;

    [Fact]
    public void The_first_ends_at_4_GiB_the_second_below_it_and_the_first_s_end_at_1_MiB()
    {
        MachineBackends backends = Drives(("code", 2 << 20), ("vars", 128 << 10));
        using var pc = new TestMachine(c => With(c, "pflash0=code,pflash1=vars") with
            { Firmware = new FirmwareConfig("nowhere.bin") }, backends: backends);
        byte[] high = new byte[(2 << 20) + (128 << 10)], low = new byte[128 << 10];
        pc.Board.Memory.Read(FourGiB - (ulong)high.Length, high);
        Assert.Equal([.. Bytes(backends, "vars"), .. Bytes(backends, "code")], high);
        pc.Board.Memory.Read(MiB - (ulong)low.Length, low);
        Assert.Equal(high[^low.Length..], low);
        Assert.Equal(ulong.MaxValue, pc.Board.Memory.Read(FourGiB - (ulong)high.Length - 8, 8));
        Assert.Contains("-bios nowhere.bin: no effect", pc.Messages.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("pflash0=a", 5120, 0, "block device a has invalid size 5120 (a.fd)")]
    [InlineData("pflash0=a", 0, 0, "block device a has invalid size 0 (a.fd)")]
    [InlineData("pflash0=a", 9 << 20, 0, "combined size of system firmware exceeds 8388608 bytes: a (a.fd)")]
    [InlineData("pflash0=a,pflash1=b", 6 << 20, 3 << 20, "exceeds 8388608 bytes: b (b.fd)")]
    [InlineData("pflash1=b", 4096, 4096, "pflash1 requires pflash0")]
    [InlineData("pflash0=c", 4096, 4096, "-machine pflash0=c: Property 'drive' can't find value 'c'")]
    [InlineData("pflash0=a,pflash1=a", 4096, 4096, "drive 'a' is in use by -machine pflash0=a already")]
    public void What_is_no_firmware_is_named(string options, int first, int second, string message)
    {
        MachineBackends backends = Drives(("a", first), ("b", second));
        Assert.Contains(message, Assert.Throws<ConfigurationException>(() =>
            new TestMachine(c => With(c, options), backends: backends)).Message, StringComparison.Ordinal);
    }

    /// <summary>The chip's identifier instead of its contents: it has taken a command.</summary>
    [Theory]
    [InlineData("off", "off", true)] [InlineData("off", "on", true)] [InlineData("on", "off", false)]
    [InlineData("on", "on", false)]
    public void Secure_flash_is_written_in_system_management_mode_alone(string secure, string smm, bool isOpen)
    {
        const ulong at = FourGiB - 8192;
        MachineConfig Secure(MachineConfig config) => With(config, $"pflash0=a,pflash1=b,smm={smm}") with
            { Globals = [new GlobalConfig("cfi.pflash01", "secure", secure)] };

        MachineBackends backends = Drives(("a", 4096), ("b", 4096));
        Bytes(backends, "b")[0] = 0x5A;
        using var pc = new TestMachine(Secure, backends: backends, hasSmm: true);
        AddressSpace? inside = pc.Accelerator.Smm;
        Assert.Equal(smm == "on", inside != null);
        pc.Board.Memory.Write(at, 1, 0x90);
        Assert.Equal(isOpen ? 0ul : 0x5A, pc.Board.Memory.Read(at, 1));
        if (inside == null) return;
        Assert.Equal(isOpen ? 0ul : 0x5A, inside.Read(at, 1));
        inside.Write(at, 1, 0x90);
        Assert.Equal((0ul, isOpen ? 0ul : 0x5A), (inside.Read(at, 1), pc.Board.Memory.Read(at, 1)));
    }

    [Fact]
    public void An_accelerator_without_the_mode_says_so()
    {
        Assert.Contains("smm=on: System Management Mode not supported by this hypervisor",
            Assert.Throws<ConfigurationException>(() => new TestMachine(c => With(c, "smm=on"))).Message,
            StringComparison.Ordinal);
    }
}
