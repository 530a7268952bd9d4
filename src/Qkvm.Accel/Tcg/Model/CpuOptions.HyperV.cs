namespace Qkvm.Accel.Tcg.Model;

/// <remarks>hv-…</remarks>
sealed partial class CpuOptions
{
    static bool IsHyperV(string property) =>
        property.StartsWith("hv-", StringComparison.Ordinal) || property.StartsWith("hv_", StringComparison.Ordinal);

    void SwitchHyperV(string property, bool on)
    {
        HyperV hyperV = _extras.HyperV;
        switch (property.Replace('_', '-'))
        {
            case "hv-enforce-cpuid": return;                       // what CPUID does not show is never there
            case "hv-passthrough":
                if (on) hyperV.Features |= host.HyperV;
                return;
            case "hv-no-nonarch-coresharing": hyperV.HasOwnCores = on; return;
        }
        if (!HyperV.TryFind(property, out HyperVFeatures feature))
            throw Refuse(property, "there is no such enlightenment");
        hyperV.Features = on ? hyperV.Features | feature : hyperV.Features & ~feature;
    }

    /// <summary>False: there is no such property.</summary>
    bool TrySetHyperV(string property, string value)
    {
        const int vendorLength = 12;
        HyperV hyperV = _extras.HyperV;
        switch (property)
        {
            case "hv-spinlocks":
                uint attempts = Word(uint.MaxValue);
                hyperV.Spinlocks = attempts == uint.MaxValue ? null : attempts;
                break;
            case "hv-vendor-id":
                if (value.Length > vendorLength || !value.All(char.IsAscii))
                    throw Refuse($"{property}={value}", $"expects at most {vendorLength} ASCII characters");
                hyperV.Vendor = value;
                break;
            case "hv-version-id-build": hyperV.Build = Word(uint.MaxValue); break;
            case "hv-version-id-major": hyperV.Major = Word(ushort.MaxValue); break;
            case "hv-version-id-minor": hyperV.Minor = Word(ushort.MaxValue); break;
            case "hv-version-id-spack": hyperV.ServicePack = Word(uint.MaxValue); break;
            case "hv-version-id-sbranch": hyperV.ServiceBranch = Word(byte.MaxValue); break;
            case "hv-version-id-snumber": hyperV.ServiceNumber = Word(0xFF_FFFF); break;
            // auto: threads of vCPUs go where the host's scheduler puts them
            case "hv-no-nonarch-coresharing" when value == "auto": break;
            default: return false;
        }
        return true;

        uint Word(uint most) => (uint)Number(property, value, 0, most);
    }
}
