namespace Qkvm.Core.Virtio;

/// <summary>Feature bits that belong to the rings and transports. Virtio 1.2, chapter 6.</summary>
public static class VirtioFeatures
{
    public const ulong AnyLayout = 1UL << 27, IndirectDescriptors = 1UL << 28, EventIndex = 1UL << 29,
        Version1 = 1UL << 32, AccessPlatform = 1UL << 33, RingPacked = 1UL << 34;

    /// <summary>What rings offer as users wish.</summary>
    public static ulong Of(bool indirectDescriptors, bool eventIndex, bool packed) =>
        AnyLayout | (indirectDescriptors ? IndirectDescriptors : 0) | (eventIndex ? EventIndex : 0)
            | (packed ? RingPacked : 0);
}

/// <summary>The device status field. Virtio 1.2, section 2.1.</summary>
public static class VirtioStatus
{
    public const byte Acknowledge = 1, Driver = 2, DriverOk = 4, FeaturesOk = 8, NeedsReset = 0x40, Failed = 0x80;
}
