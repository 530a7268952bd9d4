namespace Qkvm.Accel.Tcg.Model;

/// <summary>What may be done with a model-specific register; the rest raises #GP.</summary>
enum MsrAccess : byte { ReadWrite, ReadOnly, WriteOnly }

/// <summary>Registers that are storage without effect on every processor of a vendor, from one family and model up to
/// another.</summary>
/// <param name="First">Number of the first.</param>
/// <param name="Last">Number of the last.</param>
/// <param name="Writable">Bits that keep what is written; others keep their reset value, whatever is written.</param>
/// <param name="Reset">After power-on.</param>
/// <param name="Access">The forbidden direction raises #GP.</param>
/// <param name="From">First family, in the high byte, and model that have it.</param>
/// <param name="To">Last ones.</param>
/// <param name="Feature">It exists only where CPUID shows this, if not "".</param>
readonly record struct VendorMsr(uint First, uint Last, ulong Writable, ulong Reset = 0,
    MsrAccess Access = MsrAccess.ReadWrite,
    int From = 0, int To = int.MaxValue, string Feature = "");

/// <summary>The registers that operating systems and debuggers find on a maker's processors without asking CPUID. Intel
/// SDM vol. 4, tables 2-2, 2-3, 2-62 and 2-63; AMD APM vol. 2, appendix A, and the BIOS and Kernel Developer's Guides
/// of families 0Fh, 10h, 15h and 17h. Counters stand still.</summary>
static class VendorMsrs
{
    public const uint AmdCounter = 0xC0010004, AmdEventSelect = 0xC0010000, IntelCounter = 0xC1, PentiumCounter = 0x12;
    public const int AmdCounters = 4, IntelCounters = 2;

    const ulong All = ulong.MaxValue, Low32 = uint.MaxValue;
    const int K8 = 0xF00, Family10 = 0x1000, Family15 = 0x1500, Family17 = 0x1700;
    const int P5 = 0x500, P5End = 0x5FF, P6 = 0x600, Core2End = 0x619, Nehalem = 0x61A, P6End = 0x6FF, NetBurst = 0xF00,
        PentiumMEnd = 0x60E;

    static readonly VendorMsr[] s_amd =
    [
        new(AmdEventSelect, AmdEventSelect + 3, 0x0000_030F_FFDF_FFFF),
        new(AmdCounter, AmdCounter + 3, 0x0000_FFFF_FFFF_FFFF),
        new(0xC0010010, 0xC0010010, Low32),                                            // SYSCFG
        new(0xC0010015, 0xC0010015, Low32),                                            // HWCR
        new(0xC0010016, 0xC0010019, All, From: K8),                                    // IORRBase, IORRMask
        new(0xC001001A, 0xC001001A, All, From: K8),                                    // TOP_MEM
        new(0xC001001D, 0xC001001D, All, From: K8),                                    // TOP_MEM2
        new(0xC001001F, 0xC001001F, All, From: K8),                                    // NB_CFG
        // PATCH_LOADER: takes every patch, loads none
        new(0xC0010020, 0xC0010020, 0, Access: MsrAccess.WriteOnly),
        new(0xC0010041, 0xC0010042, All, From: K8, To: K8 | 0xFF),                     // FIDVID_CTL, FIDVID_STATUS
        new(0xC0010044, 0xC001004A, All, From: K8),                                    // MCi_CTL_MASK
        // SMI_ON_IO_TRAP_i and its control, interrupt pending
        new(0xC0010050, 0xC0010056, All, From: K8),
        new(0xC0010058, 0xC0010058, 0x0000_FFFF_FFF0_003F, From: Family10),            // MMIO configuration base
        // P-state current limit: P0 alone
        new(0xC0010061, 0xC0010061, 0, Access: MsrAccess.ReadOnly, From: Family10),
        new(0xC0010062, 0xC0010062, 7, From: Family10),                                // P-state control
        new(0xC0010063, 0xC0010063, 0, Access: MsrAccess.ReadOnly, From: Family10),    // P-state status
        new(0xC0010064, 0xC0010064, All, 1UL << 63, From: Family10),                   // P-state 0: enabled
        new(0xC0010065, 0xC001006B, All, From: Family10),
        new(0xC0010070, 0xC0010070, Low32, From: Family10, To: Family17 - 1),          // COFVID control
        new(0xC0010071, 0xC0010071, 0, Access: MsrAccess.ReadOnly, From: Family10, To: Family17 - 1),
        new(0xC0010111, 0xC0010111, Low32, 0x30000, From: K8),                         // SMM_BASE
        new(0xC0010112, 0xC0010113, All, From: K8),                                    // SMM_ADDR, SMM_MASK
        new(0xC0010114, 0xC0010114, 0x1F, From: K8),                                   // VM_CR
        new(0xC0010115, 0xC0010115, 1, From: K8),                                      // IGNNE
        new(0xC0010140, 0xC0010141, All, From: Family10),                              // OSVW_ID_Length, OSVW_Status
        // what CPUID shows: written by firmware, without effect
        new(0xC0011004, 0xC0011005, All, From: Family10),
        new(0xC0011020, 0xC0011023, All, From: K8),                                    // LS_CFG, IC_CFG, DC_CFG, BU_CFG
        new(0xC0011029, 0xC0011029, All, From: Family10),                              // DE_CFG
        new(0xC001102A, 0xC001102A, All, From: Family10),                              // BU_CFG2
        new(0xC0011028, 0xC0011028, All, From: Family15),                              // FP_CFG
    ];

    static readonly VendorMsr[] s_intel =
    [
        new(0x11, 0x11, 0x03FF_03FF, From: P5, To: P5End),                             // CESR
        new(PentiumCounter, PentiumCounter + 1, 0xFF_FFFF_FFFF, From: P5, To: P5End),
        new(0x17, 0x17, 0, Access: MsrAccess.ReadOnly, From: P6),                      // IA32_PLATFORM_ID
        new(0x2A, 0x2A, All, From: P6, To: Core2End),                                  // EBL_CR_POWERON
        new(0x2A, 0x2A, All, From: NetBurst),
        new(0x34, 0x34, 0, Access: MsrAccess.ReadOnly, From: Nehalem, To: P6End),      // SMI_COUNT
        new(0x79, 0x79, 0, Access: MsrAccess.WriteOnly, From: P6),                     // IA32_BIOS_UPDT_TRIG
        new(IntelCounter, IntelCounter + 1, 0xFF_FFFF_FFFF, From: P6, To: P6End),
        new(0xCD, 0xCD, 0, Access: MsrAccess.ReadOnly, From: 0x60E, To: Core2End),     // FSB_FREQ: 266 MHz
        // PLATFORM_INFO: see the reset value
        new(0xCE, 0xCE, 0, Access: MsrAccess.ReadOnly, From: Nehalem, To: P6End),
        new(0x11E, 0x11E, All, 0xBE702111, From: P6, To: Core2End),                    // BBL_CR_CTL3
        new(0x186, 0x187, Low32, From: P6, To: P6End),                                 // PERFEVTSEL0, PERFEVTSEL1
        // IA32_PERF_STATUS: see the reset value
        new(0x198, 0x198, 0, Access: MsrAccess.ReadOnly, From: 0x609),
        new(0x199, 0x199, 0xFFFF, From: 0x609),                                        // IA32_PERF_CTL
        new(0x1A2, 0x1A2, 0, 100 << 16, MsrAccess.ReadOnly, Nehalem, P6End),           // TEMPERATURE_TARGET
        // IA32_CLOCK_MODULATION, IA32_THERM_INTERRUPT, IA32_THERM_STATUS
        new(0x19A, 0x19A, 0x1E, From: P6, Feature: "acpi"),
        new(0x19B, 0x19B, 0x01FF_FF1F, From: P6, Feature: "acpi"),
        new(0x19C, 0x19C, 0, From: P6, Feature: "acpi"),
        // LASTBRANCHFROMIP, LASTBRANCHTOIP
        new(0x1DB, 0x1DC, 0, Access: MsrAccess.ReadOnly, From: P6, To: PentiumMEnd - 1),
        new(0x1DD, 0x1DE, 0, Access: MsrAccess.ReadOnly, From: P6, To: P6End),         // LASTINTFROMIP, LASTINTTOIP
        new(0x1D7, 0x1D8, 0, Access: MsrAccess.ReadOnly, From: NetBurst),              // the same there
        new(0x300, 0x311, 0xFF_FFFF_FFFF, From: NetBurst),                             // counters of NetBurst
        new(0x360, 0x371, Low32, From: NetBurst),                                      // CCCRs
        new(0x3A0, 0x3E1, Low32, From: NetBurst),                                      // ESCRs
    ];

    const uint PlatformInfo = 0xCE, PerfStatus = 0x198;

    /// <summary>In order, with their reset values: those of one model.</summary>
    public static VendorMsr[] Of(Cpuid cpuid)
    {
        CpuModel model = cpuid.Model;
        int number = model.Family << 8 | model.Model;
        VendorMsr[] table = model.IsAmd ? s_amd : model.Vendor == CpuModel.Intel ? s_intel : [];
        return [.. table.Where(msr => number >= msr.From && number <= msr.To
            && (msr.Feature.Length == 0 || cpuid.Has(msr.Feature)) && cpuid.Has("msr"))
            .Select(msr => msr.First switch
            {
                // Ratios to a bus of 100 MHz. Bits 15 to 8 here,
                PlatformInfo => msr with { Reset = cpuid.TscHertz / BusHertz << 8 },
                // and there as QEMU has them: ten times the bus, and as the highest.
                PerfStatus => msr with { Reset = 1000 | 4UL << 40 },
                _ => msr,
            }).OrderBy(msr => msr.First)];
    }

    const ulong BusHertz = 100_000_000;
}
