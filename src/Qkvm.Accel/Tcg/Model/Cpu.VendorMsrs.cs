using Qkvm.Accel.Tcg.Model;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>Registers that only this model's maker has: <see cref="VendorMsrs"/>.</summary>
public sealed unsafe partial class Cpu
{
    const uint Hwcr = 0xC0010015;
    const ulong McStatusWriteEnable = 1 << 18;

    readonly VendorMsr[] _vendorMsrs;

    /// <summary>One value for each number that the table covers.</summary>
    readonly ulong[] _vendorValues;

    static int CountOf(VendorMsr[] table) => table.Sum(range => (int)(range.Last - range.First + 1));

    bool TryFindVendorMsr(uint msr, out VendorMsr range, out int index)
    {
        index = 0;
        foreach (VendorMsr candidate in _vendorMsrs)
        {
            if (msr >= candidate.First && msr <= candidate.Last)
            {
                (range, index) = (candidate, index + (int)(msr - candidate.First));
                return true;
            }
            index += (int)(candidate.Last - candidate.First + 1);
        }
        range = default;
        return false;
    }

    bool ReadVendorMsr(uint msr, out ulong value)
    {
        if (TryReadSvmMsr(msr, out value)) return true;
        value = 0;
        if (!TryFindVendorMsr(msr, out VendorMsr range, out int index) || range.Access == MsrAccess.WriteOnly)
            return false;
        value = _vendorValues[index];
        return true;
    }

    bool WriteVendorMsr(uint msr, ulong value)
    {
        if (TryWriteSvmMsr(msr, value) is { } written) return written;
        if (!TryFindVendorMsr(msr, out VendorMsr range, out int index) || range.Access == MsrAccess.ReadOnly)
            return false;
        // vol. 3, section 18.2.5
        if (msr is >= VendorMsrs.IntelCounter and < VendorMsrs.IntelCounter + VendorMsrs.IntelCounters)
            value = (ulong)(int)value;
        _vendorValues[index] = _vendorValues[index] & ~range.Writable | value & range.Writable;
        return true;
    }

    /// <summary>RDPMC's counters, or false for #GP. AMD has four of old; Intel's since the P6, and the Pentium with
    /// MMX, two.</summary>
    internal bool ReadCounter(uint number, out ulong value)
    {
        value = 0;
        (uint first, int count) = IsAmd ? (VendorMsrs.AmdCounter, VendorMsrs.AmdCounters)
            : _cpuid.Model.Family == 5 ? (VendorMsrs.PentiumCounter, VendorMsrs.IntelCounters)
            : (VendorMsrs.IntelCounter, VendorMsrs.IntelCounters);
        return number < count && ReadVendorMsr(first + number, out value);
    }

    /// <summary>Machine-check banks: CTL, STATUS, ADDR, MISC. Intel SDM vol. 3, section 15.3.2: STATUS, ADDR and MISC
    /// take zeros alone, CTL all zeros or all ones but for bits that old kernels clear. AMD APM vol. 2, sections 9.3.2
    /// and 9.5: STATUS takes anything while HWCR says so, ADDR always; MISC without a counter reads as zero.</summary>
    bool WriteMcBank(uint register, ulong value)
    {
        const uint control = 0, status = 1, address = 2;
        switch (register % McRegistersPerBank)
        {
            case control:
                if (!IsAmd && value != 0 && value != ulong.MaxValue) return false;
                break;
            case status:
                if (value != 0 && !(IsAmd && ReadVendorMsr(Hwcr, out ulong hwcr) && (hwcr & McStatusWriteEnable) != 0))
                    return false;
                break;
            case address:
                if (value != 0 && !IsAmd) return false;
                break;
            default:
                if (!IsAmd) return value == 0;
                return true;
        }
        _mcBanks[register] = value;
        return true;
    }

    void ResetVendorMsrs()
    {
        int index = 0;
        foreach (VendorMsr range in _vendorMsrs)
            for (uint msr = range.First; msr <= range.Last; msr++) _vendorValues[index++] = range.Reset;
    }
}
