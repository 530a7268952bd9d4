using Qkvm.Core.Block;
using Qkvm.Core.Machine;
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

    [Theory]
    [InlineData("on", true)] [InlineData("off", false)]
    public void Flash_for_system_management_mode_alone_is_refused(string secure, bool isRefused)
    {
        MachineConfig Secure(MachineConfig config) => With(config, "pflash0=a") with
            { Globals = [new GlobalConfig("cfi.pflash01", "secure", secure)] };

        Exception? refusal = Record.Exception(() =>
        {
            using var pc = new TestMachine(Secure, backends: Drives(("a", 4096)));
        });
        Assert.Equal(isRefused, refusal is ConfigurationException);
        if (isRefused) Assert.Contains("system management mode", refusal!.Message, StringComparison.Ordinal);
    }
}
