namespace Qkvm.Core.Machine;

/// <summary>Into what a guest goes when it goes to sleep: ACPI 6.3, section 7.4.2.</summary>
public enum SleepState
{
    /// <summary>S5.</summary>
    SoftOff,
    /// <summary>S3: memory stays, and everything else starts afresh.</summary>
    ToRam,
    /// <summary>S4: the guest has saved itself; for the machine as S5.</summary>
    ToDisk,
}

/// <summary>What wakes a guest of S3.</summary>
public enum WakeCause { Other, RtcAlarm }
