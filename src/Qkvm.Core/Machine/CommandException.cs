namespace Qkvm.Core.Machine;

/// <summary>The classes of errors that QMP knows; clients decide by them and not by texts.</summary>
public enum ErrorClass { GenericError, CommandNotFound, DeviceNotFound, DeviceNotActive, KVMMissingCap }

/// <summary>A command that cannot be carried out. QMP answers with class and text, the human monitor prints the
/// text.</summary>
public sealed class CommandException(string message, ErrorClass errorClass = ErrorClass.GenericError,
    Exception? inner = null)
    : Exception(message, inner)
{
    public ErrorClass Class { get; } = errorClass;

    public static CommandException DeviceNotFound(string id) =>
        new($"Device '{id}' not found", ErrorClass.DeviceNotFound);
}
