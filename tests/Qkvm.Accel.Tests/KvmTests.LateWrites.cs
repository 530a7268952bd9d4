using Qkvm.Accel.Kvm;
using Qkvm.Core.Accel;
using Qkvm.Core.Memory;

namespace Qkvm.Accel.Tests;

/// <remarks>What the kernel gathers, and what it leaves to us.</remarks>
public sealed partial class KvmTests
{
    const ulong VideoAt = 0x80000;

    /// <summary>mov ax,8000h; mov ds,ax; mov bx,0; mov cx, so many; mov [bx],bl; inc bx; loop to mov; out
    /// 0Fh,al.</summary>
    static string Fill(int count) =>
        $"B8 00 80 8E D8 BB 00 00 B9 {count & 0xFF:X2} {count >> 8:X2} 88 1F 43 E2 FB E6 0F";

    [KvmFact]
    public void Late_writes_come_in_order_before_whatever_follows()
    {
        const int count = 500;                                     // more than the kernel's ring holds
        using var kvm = new KvmAccelerator();
        IVCpu cpu = CreateWithVideo(kvm, new LateWrites());
        int before = -1;
        Place(Fill(count));
        _end.OnWrite = () =>
        {
            before = _registers.Writes.Count;
            cpu.Kick();
        };
        Assert.Equal(ExitReason.Kicked, cpu.Run().Reason);
        Assert.Equal(count, before);
        Assert.Equal(Enumerable.Range(0, count).Select(i => $"w1@{i:x}={i & 0xFF:x}"), _registers.Writes);
        ulong exits = kvm.Statistics(cpu).FirstOrDefault(one => one.Name == "userspace-exits-mmio")?.Values[0] ?? 0;
        Assert.InRange(exits, 1u, 10u);                            // where the ring was full
    }

    [KvmFact]
    public void Whoever_looks_at_a_running_guest_gets_late_writes_before()
    {
        using var kvm = new KvmAccelerator();
        var late = new LateWrites();
        IVCpu cpu = CreateWithVideo(kvm, late);
        Place(Fill(3).Replace("E6 0F", "EB FE"));                  // jmp to itself
        Task run = Task.Run(cpu.Run);
        DateTime end = DateTime.UtcNow + ModeGuest.Patience;
        while (_registers.Writes.Count < 3 && DateTime.UtcNow < end)
            using (_lock.Hold()) late.Settle();
        cpu.Kick();
        Assert.True(run.Wait(ModeGuest.Patience));
        Assert.Equal(["w1@0=0", "w1@1=1", "w1@2=2"], _registers.Writes);
    }

    [KvmFact]
    public void Cores_and_threads_are_counted_in_a_register_and_no_unknown_one_is_there()
    {
        using var kvm = new KvmAccelerator();
        kvm.Attach(_memory, _ports, _lock);
        IVCpu cpu = kvm.CreateVCpu(0, new CpuSetup("host", [], 0, 1, 3, 2) { Dies = 2 });
        Execute(cpu, "66 B9 35 00 00 00 0F 32 BA 00 05 66 EF B0 00 E6 0F"); // mov ecx,35h; rdmsr; out 500h,eax; the end
        Assert.Equal(["w4@0=6000c"], _port.Writes);
    }

    IVCpu CreateWithVideo(KvmAccelerator kvm, LateWrites late)
    {
        _root.Map(VideoAt, MemoryRegion.Io("video", 0x10000, _registers, AccessSizes.Bytes, late), 1);
        return Create(kvm);
    }
}
