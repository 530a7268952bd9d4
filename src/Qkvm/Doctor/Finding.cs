namespace Qkvm.Doctor;

/// <summary>How something of the host is: as it should be; good enough, but it could be better; not there.</summary>
enum Health { Good, Fair, Missing }

/// <summary>What a check found.</summary>
/// <param name="Text">One line.</param>
/// <param name="Mend">The command that makes it better, to be pasted; null where there is nothing to do, or no command
/// does it.</param>
sealed record Finding(Health Health, string Text, string? Mend = null)
{
    public static Finding Good(string text) => new(Health.Good, text);
    public static Finding Fair(string text, string? mend = null) => new(Health.Fair, text, mend);
    public static Finding Missing(string text, string? mend = null) => new(Health.Missing, text, mend);
}
