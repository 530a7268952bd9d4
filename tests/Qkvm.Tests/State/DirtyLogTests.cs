using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Tests.State;

public class DirtyLogTests
{
    /// <summary>What the firmware wrote between two looks is among the pages that the log names, and most pages are
    /// not.</summary>
    [Fact]
    public void Pages_that_changed_were_logged()
    {
        using var machine = new SoftwareMachine();
        machine.RunUntil("=== PCI device probing ===");           // translated code with write tags exists
        GuestRam ram = machine.Machine.RamBlocks[0];
        DirtyLog log = null!;
        machine.OnLoop(() => log = new DirtyLog(machine.Machine.RamBlocks, machine.Machine.Accelerator));
        foreach (string message in new[] { "Searching bootorder", "No bootable device" })
        {
            byte[] before = [];
            machine.OnLoop(() => before = ram.Span(0, (int)ram.Size).ToArray());
            machine.RunUntil(message);
            var logged = new HashSet<ulong>();
            machine.OnLoop(() => log.Collect((block, page) => { if (block == ram) logged.Add(page); }));
            for (int at = 0; at < before.Length; at += GuestRam.PageSize)
                if (!before.AsSpan(at, GuestRam.PageSize).SequenceEqual(ram.Span((ulong)at, GuestRam.PageSize)))
                    Assert.True(logged.Contains((ulong)at / GuestRam.PageSize),
                        $"the page at {at:x} changed unseen, before '{message}'");
            Assert.InRange(logged.Count, 1, before.Length / GuestRam.PageSize / 2);
        }
        machine.OnLoop(() =>
        {
            log.Collect((_, _) => { });
            ram.Write(0x5000, 1, 0x42);                            // as a device does
            var logged = new List<ulong>();
            log.Collect((block, page) => { if (block == ram) logged.Add(page); });
            Assert.Equal([5UL], logged);
            log.Dispose();
            ram.Write(0x5000, 1, 0);
        });
    }
}
