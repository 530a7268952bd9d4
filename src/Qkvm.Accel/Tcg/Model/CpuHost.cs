namespace Qkvm.Accel.Tcg.Model;

/// <summary>What runs the guest's instructions, as far as -cpu needs to know.</summary>
/// <param name="Name">For messages: "the software CPU".</param>
/// <param name="Supported">All that can be switched on, by <see cref="CpuidWord"/>.</param>
/// <param name="Maximum">Features of "max" and "host".</param>
/// <param name="Max">Identity of these.</param>
sealed record CpuHost(string Name, uint[] Supported, uint[] Maximum, CpuModel Max)
{
    /// <summary>The hypervisor's leaves are KVM's unless kvm=off says otherwise, and what a model lacks is
    /// told.</summary>
    public bool IsKvm { get; init; }

    /// <summary>The kernel's paravirtual features that named models get, and what they lose: QEMU's defaults.</summary>
    public uint[] Added { get; init; } = new uint[(int)CpuidWord.Count];
    public uint[] Removed { get; init; } = new uint[(int)CpuidWord.Count];

    /// <summary>Hyper-V's enlightenments that can be switched on.</summary>
    public HyperVFeatures HyperV { get; init; }

    /// <summary>Physical address bits at most.</summary>
    public int PhysicalBits { get; init; } = 52;

    public static CpuHost Software() =>
        new("the software CPU", CpuFeatures.Supported(), CpuFeatures.Maximum(), CpuModels.Max)
    {
        Added = CpuFeatures.Parse(CpuFeatures.KvmDefaults), Removed = CpuFeatures.Parse("svm"),
            HyperV = Model.HyperV.OfSoftware,
    };
}
