namespace Qkvm.Core.Configuration;

/// <summary>The user asked for something impossible: names the option, what was wrong and what would be right.
/// The program prints the message on stderr and exits with 1.</summary>
public sealed class ConfigurationException(string message, Exception? inner = null) : Exception(message, inner);
