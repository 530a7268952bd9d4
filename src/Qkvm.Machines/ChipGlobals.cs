using Qkvm.Core.Machine;

namespace Qkvm.Machines;

/// <summary>What -global says of one of a board's own chips.</summary>
/// <param name="driver">The chip: "ICH9-LPC".</param>
sealed class ChipGlobals(MachineConfig config, string driver)
{
    /// <exception cref="ConfigurationException">It is neither on nor off.</exception>
    public bool Bool(string property, bool otherwise) => Find(property)?.Bool(property) ?? otherwise;

    /// <exception cref="ConfigurationException">It is no number, or beyond the limits.</exception>
    public long Number(string property, long otherwise, long min, long max) =>
        Find(property)?.Number(property, min, max) ?? otherwise;

    /// <summary>The value and whose it is, or null.</summary>
    public NamedOption? Text(string property) => Find(property) is { } options
        ? new NamedOption(options.Required(property), options.Owner) : null;

    /// <summary>What is not built can be switched off, no more.</summary>
    /// <param name="isOff">Of its value.</param>
    /// <param name="remedy">What is missing, and what to write.</param>
    public void Refuse(string property, Func<string, bool> isOff, string remedy)
    {
        if (Find(property) is { } options && options.Text(property) is { } value && !isOff(value))
            throw new ConfigurationException($"-global {driver}.{property}={value}: {remedy}");
    }

    /// <summary>The last of that name, as the strongest.</summary>
    Options? Find(string property) =>
        config.Globals.LastOrDefault(global => global.Driver == driver && global.Property == property) is { } found
            ? Options.Of($"-global {driver}.{property}={found.Value}", [new(property, found.Value)]) : null;
}
