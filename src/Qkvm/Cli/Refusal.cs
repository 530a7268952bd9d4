using Qkvm.Core.Devices;

namespace Qkvm.Cli;

/// <summary>What is parsed but not built is refused with one clear line, never ignored.</summary>
static class Refusal
{
    public static void Check(IReadOnlyList<GivenOption> options)
    {
        foreach (GivenOption option in options)
            if (OptionCatalogue.All.FirstOrDefault(o => o.Name == option.Name)?.NotYet is { } why)
                throw new ConfigurationException(option.Argument == null ? $"{option} {why}; leave it out"
                    : $"{option}: the option -{option.Name} {why}; leave it out");
    }
}
