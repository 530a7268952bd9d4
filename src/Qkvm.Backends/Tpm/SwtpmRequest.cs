namespace Qkvm.Backends.Tpm;

/// <summary>Commands of swtpm's control channel. Spec: swtpm_ioctls(3), and the numbers in its tpm_ioctl.h.</summary>
enum SwtpmRequest : uint
{
    GetCapability = 1, Init, Shutdown, GetTpmEstablished, SetLocality, CancelTpmCommand = 9, ResetTpmEstablished = 11,
    Stop = 14, SetDataFd = 16, SetBufferSize = 17,
}

/// <summary>What it can do: PTM_CAP_….</summary>
[Flags]
enum SwtpmCapabilities : uint
{
    Init = 1, Shutdown = 1 << 1, GetTpmEstablished = 1 << 2, SetLocality = 1 << 3, CancelTpmCommand = 1 << 5,
    ResetTpmEstablished = 1 << 7, Stop = 1 << 10, SetDataFd = 1 << 12, SetBufferSize = 1 << 13,
}

/// <summary>What the program said that is not of the protocol, or its silence.</summary>
class SwtpmException(string message) : Exception(message);

/// <summary>It has understood, and will not.</summary>
sealed class SwtpmRefusal(string message) : SwtpmException(message);
