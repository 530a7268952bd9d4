namespace Qkvm.Accel.Tcg.Model;

/// <summary>QEMU 7.2's CPU models, as its query-cpu-model-expansion tells them: facts that guests and management tools
/// rely on.</summary>
static class CpuModelTable
{
    /// <summary>Name: vendor, family.model.stepping, highest basic leaf, highest extended leaf, model-id. Then,
    /// indented, the features, or another model with what is added and taken away.</summary>
    public const string Models = """
        486-v1: GenuineIntel, 4.8.0, 0x1, 0x0,
            fpu pse hypervisor
        athlon-v1: AuthenticAMD, 6.2.3, 0x2, 0x80000008, QEMU Virtual CPU version 2.5+
            fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 mmx fxsr sse sse2 hypervisor mmxext
            3dnowext 3dnow
        Broadwell-v1: GenuineIntel, 6.61.2, 0xd, 0x80000008, Intel Core Processor (Broadwell)
            fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni pclmulqdq
            ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor
            fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm rdseed adx smap syscall nx rdtscp lm lahf-lm abm
            3dnowprefetch xsaveopt arat
        Broadwell-v2: GenuineIntel, 6.61.2, 0xd, 0x80000008, Intel Core Processor (Broadwell, no TSX)
            = Broadwell-v1 -hle -rtm
        Broadwell-v3: GenuineIntel, 6.61.2, 0xd, 0x80000008, Intel Core Processor (Broadwell, IBRS)
            = Broadwell-v1 +spec-ctrl
        Broadwell-v4: GenuineIntel, 6.61.2, 0xd, 0x80000008, Intel Core Processor (Broadwell, no TSX, IBRS)
            = Broadwell-v2 +spec-ctrl
        Cascadelake-Server-v1: GenuineIntel, 6.85.6, 0xd, 0x80000008, Intel Xeon Processor (Cascadelake)
            = Broadwell-v3 +avx512f +avx512dq +clflushopt +clwb +avx512cd +avx512bw +avx512vl +pku +avx512vnni +ssbd
            +pdpe1gb +xsavec +xgetbv1
        Cascadelake-Server-v2: GenuineIntel, 6.85.6, 0xd, 0x80000008, Intel Xeon Processor (Cascadelake)
            = Cascadelake-Server-v1 +arch-capabilities
        Cascadelake-Server-v3: GenuineIntel, 6.85.6, 0xd, 0x80000008, Intel Xeon Processor (Cascadelake)
            = Cascadelake-Server-v2 -hle -rtm
        Cascadelake-Server-v4: GenuineIntel, 6.85.6, 0xd, 0x80000008, Intel Xeon Processor (Cascadelake)
            = Cascadelake-Server-v3
        Cascadelake-Server-v5: GenuineIntel, 6.85.6, 0xd, 0x80000008, Intel Xeon Processor (Cascadelake)
            = Cascadelake-Server-v3 +xsaves
        Conroe-v1: GenuineIntel, 6.15.3, 0xa, 0x80000008, Intel Celeron_4x0 (Conroe/Merom Class Core 2)
            fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni ssse3
            hypervisor syscall nx lm lahf-lm
        Cooperlake-v1: GenuineIntel, 6.85.10, 0xd, 0x80000008, Intel Xeon Processor (Cooperlake)
            = Cascadelake-Server-v2 +stibp +avx512-bf16
        Cooperlake-v2: GenuineIntel, 6.85.10, 0xd, 0x80000008, Intel Xeon Processor (Cooperlake)
            = Cooperlake-v1 +xsaves
        core2duo-v1: GenuineIntel, 6.15.11, 0xa, 0x80000008, Intel(R) Core(TM)2 Duo CPU     T7700  @ 2.40GHz
            = Conroe-v1 +acpi +ss +monitor +cx16
        coreduo-v1: GenuineIntel, 6.14.8, 0xa, 0x80000008, Genuine Intel(R) CPU           T2600  @ 2.16GHz
            = core2duo-v1 -pse36 -ssse3 -cx16 -syscall -lm -lahf-lm
        Denverton-v1: GenuineIntel, 6.95.1, 0x15, 0x80000008, Intel Atom Processor (Denverton)
            = Broadwell-v4 +monitor +mpx +clflushopt +sha-ni +arch-capabilities +ssbd +pdpe1gb +xsavec +xgetbv1 -fma
            -pcid -avx -f16c -bmi1 -avx2 -bmi2 -invpcid -adx -abm
        Denverton-v2: GenuineIntel, 6.95.1, 0x15, 0x80000008, Intel Atom Processor (Denverton)
            = Denverton-v1 -monitor -mpx
        Denverton-v3: GenuineIntel, 6.95.1, 0x15, 0x80000008, Intel Atom Processor (Denverton)
            = Denverton-v2 +xsaves
        Dhyana-v1: HygonGenuine, 24.0.1, 0xd, 0x8000001e, Hygon Dhyana Processor
            = Broadwell-v2 +monitor +clflushopt +mmxext +fxsr-opt +pdpe1gb +svm +cr8legacy +sse4a +misalignsse +osvw
            +topoext +ibpb +xsavec +xgetbv1 -pclmulqdq -pcid -x2apic -tsc-deadline -aes -erms -invpcid
        Dhyana-v2: HygonGenuine, 24.0.1, 0xd, 0x8000001e, Hygon Dhyana Processor
            = Dhyana-v1 +xsaves
        EPYC-v1: AuthenticAMD, 23.1.2, 0xd, 0x8000001e, AMD EPYC Processor
            = Dhyana-v1 +pclmulqdq +aes +sha-ni -ibpb
        EPYC-v2: AuthenticAMD, 23.1.2, 0xd, 0x8000001e, AMD EPYC Processor (with IBPB)
            = EPYC-v1 +ibpb
        EPYC-v3: AuthenticAMD, 23.1.2, 0xd, 0x8000001e, AMD EPYC Processor
            = EPYC-v2 +perfctr-core +clzero +xsaveerptr +xsaves
        EPYC-Milan-v1: AuthenticAMD, 25.1.1, 0xd, 0x8000001e, AMD EPYC-Milan Processor
            = EPYC-v3 +pcid +erms +invpcid +clwb +umip +pku +rdpid +fsrm +wbnoinvd +ibrs +amd-stibp +amd-ssbd
        EPYC-Rome-v1: AuthenticAMD, 23.49.0, 0xd, 0x8000001e, AMD EPYC-Rome Processor
            = EPYC-v3 +clwb +umip +rdpid +wbnoinvd +amd-stibp
        EPYC-Rome-v2: AuthenticAMD, 23.49.0, 0xd, 0x8000001e, AMD EPYC-Rome Processor
            = EPYC-Rome-v1 +ibrs +amd-ssbd
        Haswell-v1: GenuineIntel, 6.60.4, 0xd, 0x80000008, Intel Core Processor (Haswell)
            = Broadwell-v1 -rdseed -adx -smap -3dnowprefetch
        Haswell-v2: GenuineIntel, 6.60.1, 0xd, 0x80000008, Intel Core Processor (Haswell, no TSX)
            = Haswell-v1 -hle -rtm
        Haswell-v3: GenuineIntel, 6.60.4, 0xd, 0x80000008, Intel Core Processor (Haswell, IBRS)
            = Haswell-v1 +spec-ctrl
        Haswell-v4: GenuineIntel, 6.60.1, 0xd, 0x80000008, Intel Core Processor (Haswell, no TSX, IBRS)
            = Haswell-v2 +spec-ctrl
        Icelake-Server-v1: GenuineIntel, 6.134.0, 0xd, 0x80000008, Intel Xeon Processor (Icelake)
            = Cascadelake-Server-v1 +avx512vbmi +umip +avx512vbmi2 +gfni +vaes +vpclmulqdq +avx512bitalg
            +avx512-vpopcntdq +la57 +wbnoinvd
        Icelake-Server-v2: GenuineIntel, 6.134.0, 0xd, 0x80000008, Intel Xeon Processor (Icelake)
            = Icelake-Server-v1 -hle -rtm
        Icelake-Server-v3: GenuineIntel, 6.134.0, 0xd, 0x80000008, Intel Xeon Processor (Icelake)
            = Icelake-Server-v2 +arch-capabilities
        Icelake-Server-v4: GenuineIntel, 6.106.0, 0xd, 0x80000008, Intel Xeon Processor (Icelake)
            = Icelake-Server-v3 +avx512ifma +sha-ni +rdpid +fsrm
        Icelake-Server-v5: GenuineIntel, 6.106.0, 0xd, 0x80000008, Intel Xeon Processor (Icelake)
            = Icelake-Server-v4 +xsaves
        Icelake-Server-v6: GenuineIntel, 6.106.0, 0xd, 0x80000008, Intel Xeon Processor (Icelake)
            = Icelake-Server-v5
        IvyBridge-v1: GenuineIntel, 6.58.9, 0xd, 0x80000008, Intel Xeon E3-12xx v2 (Ivy Bridge)
            = Haswell-v2 -fma -pcid -movbe -bmi1 -avx2 -bmi2 -invpcid -abm
        IvyBridge-v2: GenuineIntel, 6.58.9, 0xd, 0x80000008, Intel Xeon E3-12xx v2 (Ivy Bridge, IBRS)
            = IvyBridge-v1 +spec-ctrl
        KnightsMill-v1: GenuineIntel, 6.133.0, 0xd, 0x80000008, Intel Xeon Phi Processor (Knights Mill)
            = Broadwell-v2 +ss +avx512f +avx512pf +avx512er +avx512cd +avx512-vpopcntdq +avx512-4vnniw +avx512-4fmaps
            +pdpe1gb -pcid -invpcid -smap
        kvm32-v1: GenuineIntel, 15.6.1, 0x5, 0x80000008, Common 32-bit KVM processor
            = athlon-v1 +clflush +pni -mmxext -3dnowext -3dnow
        kvm64-v1: GenuineIntel, 15.6.1, 0xd, 0x80000008, Common KVM processor
            = Conroe-v1 +cx16 -ssse3 -lahf-lm
        n270-v1: GenuineIntel, 6.28.2, 0xa, 0x80000008, Intel(R) Atom(TM) CPU N270   @ 1.60GHz
            = coreduo-v1 +ssse3 +movbe +lahf-lm
        Nehalem-v1: GenuineIntel, 6.26.3, 0xb, 0x80000008, Intel Core i7 9xx (Nehalem Class Core i7)
            = Conroe-v1 +cx16 +sse4.1 +sse4.2 +popcnt
        Nehalem-v2: GenuineIntel, 6.26.3, 0xb, 0x80000008, Intel Core i7 9xx (Nehalem Core i7, IBRS update)
            = Nehalem-v1 +spec-ctrl
        Opteron_G1-v1: AuthenticAMD, 15.6.1, 0x5, 0x80000008, AMD Opteron 240 (Gen 1 Class Opteron)
            = kvm64-v1 -cx16
        Opteron_G2-v1: AuthenticAMD, 15.6.1, 0x5, 0x8000000a, AMD Opteron 22xx (Gen 2 Class Opteron)
            = kvm64-v1 +lahf-lm +svm
        Opteron_G3-v1: AuthenticAMD, 16.2.3, 0x5, 0x8000000a, AMD Opteron 23xx (Gen 3 Class Opteron)
            = Opteron_G2-v1 +monitor +popcnt +rdtscp +abm +sse4a +misalignsse
        Opteron_G4-v1: AuthenticAMD, 21.1.2, 0xd, 0x8000001a, AMD Opteron 62xx class CPU
            = Opteron_G3-v1 +pclmulqdq +ssse3 +sse4.1 +sse4.2 +aes +xsave +avx +pdpe1gb +3dnowprefetch +xop +fma4
            -monitor
        Opteron_G5-v1: AuthenticAMD, 21.2.0, 0xd, 0x8000001a, AMD Opteron 63xx class CPU
            = Opteron_G4-v1 +fma +f16c +tbm
        Penryn-v1: GenuineIntel, 6.23.3, 0xa, 0x80000008, Intel Core 2 Duo P9xxx (Penryn Class Core 2)
            = Conroe-v1 +cx16 +sse4.1
        pentium-v1: GenuineIntel, 5.4.3, 0x1, 0x0,
            fpu de pse tsc msr mce cx8 apic mmx hypervisor
        pentium2-v1: GenuineIntel, 6.5.2, 0x2, 0x0,
            = kvm32-v1 -clflush -sse -sse2 -pni
        pentium3-v1: GenuineIntel, 6.7.3, 0x3, 0x0,
            = pentium2-v1 +sse
        phenom-v1: AuthenticAMD, 16.2.3, 0x5, 0x8000001a, AMD Phenom(tm) 9550 Quad-Core Processor
            = Opteron_G3-v1 +mmxext +fxsr-opt +pdpe1gb +3dnowext +3dnow -misalignsse
        qemu32-v1: GenuineIntel, 6.6.3, 0x4, 0x80000004, QEMU Virtual CPU version 2.5+
            = kvm32-v1 -mtrr -mca -pse36 -clflush
        qemu64-v1: AuthenticAMD, 15.107.1, 0xd, 0x8000000a, QEMU Virtual CPU version 2.5+
            = Opteron_G2-v1
        SandyBridge-v1: GenuineIntel, 6.42.1, 0xd, 0x80000008, Intel Xeon E312xx (Sandy Bridge)
            = IvyBridge-v1 -f16c -rdrand -fsgsbase -smep -erms
        SandyBridge-v2: GenuineIntel, 6.42.1, 0xd, 0x80000008, Intel Xeon E312xx (Sandy Bridge, IBRS update)
            = SandyBridge-v1 +spec-ctrl
        Skylake-Client-v1: GenuineIntel, 6.94.3, 0xd, 0x80000008, Intel Core Processor (Skylake)
            = Broadwell-v1 +xsavec +xgetbv1
        Skylake-Client-v2: GenuineIntel, 6.94.3, 0xd, 0x80000008, Intel Core Processor (Skylake, IBRS)
            = Skylake-Client-v1 +spec-ctrl
        Skylake-Client-v3: GenuineIntel, 6.94.3, 0xd, 0x80000008, Intel Core Processor (Skylake, IBRS, no TSX)
            = Skylake-Client-v2 -hle -rtm
        Skylake-Client-v4: GenuineIntel, 6.94.3, 0xd, 0x80000008, Intel Core Processor (Skylake, IBRS, no TSX)
            = Skylake-Client-v3 +xsaves
        Skylake-Server-v1: GenuineIntel, 6.85.4, 0xd, 0x80000008, Intel Xeon Processor (Skylake)
            = Cascadelake-Server-v1 -avx512vnni -spec-ctrl -ssbd
        Skylake-Server-v2: GenuineIntel, 6.85.4, 0xd, 0x80000008, Intel Xeon Processor (Skylake, IBRS)
            = Skylake-Server-v1 +spec-ctrl -clflushopt
        Skylake-Server-v3: GenuineIntel, 6.85.4, 0xd, 0x80000008, Intel Xeon Processor (Skylake, IBRS, no TSX)
            = Skylake-Server-v2 -hle -rtm
        Skylake-Server-v4: GenuineIntel, 6.85.4, 0xd, 0x80000008, Intel Xeon Processor (Skylake, IBRS, no TSX)
            = Skylake-Server-v3
        Skylake-Server-v5: GenuineIntel, 6.85.4, 0xd, 0x80000008, Intel Xeon Processor (Skylake, IBRS, no TSX)
            = Skylake-Server-v3 +xsaves
        Snowridge-v1: GenuineIntel, 6.134.1, 0x1b, 0x80000008, Intel Atom Processor (SnowRidge)
            = Denverton-v1 +clwb +umip +gfni +cldemote +movdiri +movdir64b +core-capability
        Snowridge-v2: GenuineIntel, 6.134.1, 0x1b, 0x80000008, Intel Atom Processor (Snowridge, no MPX)
            = Snowridge-v1 -mpx
        Snowridge-v3: GenuineIntel, 6.134.1, 0x1b, 0x80000008, Intel Atom Processor (Snowridge, no MPX)
            = Snowridge-v2 +xsaves
        Snowridge-v4: GenuineIntel, 6.134.1, 0x1b, 0x80000008, Intel Atom Processor (Snowridge, no MPX)
            = Snowridge-v3 -core-capability
        Westmere-v1: GenuineIntel, 6.44.1, 0xb, 0x80000008, Westmere E56xx/L56xx/X56xx (Nehalem-C)
            = Nehalem-v1 +pclmulqdq +aes +arat
        Westmere-v2: GenuineIntel, 6.44.1, 0xb, 0x80000008, Westmere E56xx/L56xx/X56xx (IBRS update)
            = Westmere-v1 +spec-ctrl
        """;

    /// <summary>What -cpu help adds to the text of a version.</summary>
    public const string Notes = """
        Cascadelake-Server-v2: ARCH_CAPABILITIES
        Cascadelake-Server-v3: ARCH_CAPABILITIES, no TSX
        Cascadelake-Server-v4: ARCH_CAPABILITIES, EPT switching, no TSX
        Cascadelake-Server-v5: ARCH_CAPABILITIES, EPT switching, XSAVES, no TSX
        Cooperlake-v2: XSAVES
        Denverton-v2: no MPX, no MONITOR
        Denverton-v3: XSAVES, no MPX, no MONITOR
        Dhyana-v2: XSAVES
        Icelake-Server-v2: no TSX
        Icelake-Server-v5: XSAVES
        Icelake-Server-v6: 5-level EPT
        Skylake-Client-v4: IBRS, XSAVES, no TSX
        Skylake-Server-v4: IBRS, EPT switching, no TSX
        Skylake-Server-v5: IBRS, XSAVES, EPT switching, no TSX
        Snowridge-v3: XSAVES, no MPX
        Snowridge-v4: no split lock detect, no core-capability
        """;

    /// <summary>Other names. Besides, a name without its version means version 1, as with QEMU's machine
    /// types.</summary>
    public const string Aliases = """
        Broadwell-IBRS: Broadwell-v3
        Broadwell-noTSX: Broadwell-v2
        Broadwell-noTSX-IBRS: Broadwell-v4
        Cascadelake-Server-noTSX: Cascadelake-Server-v3
        EPYC-IBPB: EPYC-v2
        Haswell-IBRS: Haswell-v3
        Haswell-noTSX: Haswell-v2
        Haswell-noTSX-IBRS: Haswell-v4
        Icelake-Server-noTSX: Icelake-Server-v2
        IvyBridge-IBRS: IvyBridge-v2
        Nehalem-IBRS: Nehalem-v2
        SandyBridge-IBRS: SandyBridge-v2
        Skylake-Client-IBRS: Skylake-Client-v2
        Skylake-Client-noTSX-IBRS: Skylake-Client-v3
        Skylake-Server-IBRS: Skylake-Server-v2
        Skylake-Server-noTSX-IBRS: Skylake-Server-v3
        Westmere-IBRS: Westmere-v2
        """;
}
