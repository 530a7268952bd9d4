using Qkvm.Core.Memory;

namespace Qkvm.Accel.Kvm;

// SAFETY: offsets that the kernel gives lie within its mapping.
/// <remarks>What the guest does at ports and registers.</remarks>
sealed unsafe partial class KvmVCpu
{
    KvmLateWrites? _lateWrites;

    /// <summary>MSR_CORE_THREAD_COUNT.</summary>
    public uint CoreThreadCount { get; init; }

    /// <summary>Before it runs.</summary>
    public void Use(KvmLateWrites lateWrites)
    {
        _lateWrites = lateWrites;
        lateWrites.Attach(_run, _runSize);
    }

    void ReadMsr()
    {
        bool isOurs = _run->MsrIndex == KvmMsrFilter.CoreThreadCount;
        _run->MsrError = isOurs ? (byte)0 : (byte)1;
        _run->MsrData = isOurs ? CoreThreadCount : 0;
    }

    void Io()
    {
        byte* data = (byte*)_run + _run->IoDataOffset;
        int size = _run->IoSize;
        for (uint i = 0; i < _run->IoCount; i++, data += size)
        {
            if (_run->IoDirection != 0) _ports.Write(_run->IoPort, size, Load(data, size));
            else Store(data, size, _ports.Read(_run->IoPort, size));
        }
    }

    void Mmio()
    {
        int size = (int)Math.Min(_run->MmioLength, 8);
        if (_run->MmioAddress - _apicPage < ApicPageSize)
        {
            ApicPage(size);
            return;
        }
        bool isSmm = _smm != null && (_run->Flags & KvmRun.InSmm) != 0;
        AddressSpace memory = isSmm ? _smm! : _memory;
        ulong address = isSmm ? _run->MmioAddress : _slots.Masked(_run->MmioAddress);
        if (_run->MmioIsWrite != 0) memory.Write(address, size, Load(_run->MmioData, size));
        else Store(_run->MmioData, size, memory.Read(address, size));
    }

    static ulong Load(byte* data, int size)
    {
        ulong value = 0;
        for (int i = 0; i < size; i++) value |= (ulong)data[i] << (i * 8);
        return value;
    }

    static void Store(byte* data, int size, ulong value)
    {
        for (int i = 0; i < size; i++) data[i] = (byte)(value >> (i * 8));
    }
}
