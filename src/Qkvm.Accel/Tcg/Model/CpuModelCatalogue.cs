using Qkvm.Core.Accel;

namespace Qkvm.Accel.Tcg.Model;

/// <summary>-cpu's models over what runs them.</summary>
sealed class CpuModelCatalogue(CpuHost host) : ICpuModels
{
    public IReadOnlyList<CpuDefinition> Definitions => field ??=
    [
        .. CpuModels.All.Select(model => Define(model.Name, model, null)),
        .. CpuModels.Aliases.Select(alias => Define(alias.Key, CpuModels.Find(alias.Value)!,
            alias.Key == "host" ? null : alias.Value)),
    ];

    public CpuView Expand(CpuSetup setup)
    {
        Cpuid cpuid = CpuModels.Resolve(setup, host);
        CpuModel model = cpuid.Model;
        return new CpuView([.. CpuFeatures.AllAndAbsent().Select(name => KeyValuePair.Create(name, cpuid.Has(name)))],
            model.Vendor, model.Text, model.Family, model.Model, model.Stepping,
            cpuid.BasicLevel, cpuid.ExtendedLimit, cpuid.PhysicalBits,
            cpuid.Missing);
    }

    CpuDefinition Define(string name, CpuModel model, string? alias)
    {
        bool isOfHost = model == CpuModels.Max, isStatic = model.Name == "base";
        return new CpuDefinition(name, $"{name}-x86_64-cpu", isOfHost ? name == "host" && !host.IsKvm ? ["kvm"] : []
            : [.. Lacking(model)], isStatic, !isOfHost, Deprecated: false, alias);
    }

    IEnumerable<string> Lacking(CpuModel model)
    {
        uint[] wanted = CpuFeatures.Parse(model.Features);
        for (int word = 0; word < wanted.Length; word++)
            for (int bit = 0; bit < 32; bit++)
                if ((wanted[word] & ~host.Supported[word] & ~host.Removed[word] & 1u << bit) != 0)
                    yield return CpuFeatures.NameOf((CpuidWord)word, bit);
    }
}
