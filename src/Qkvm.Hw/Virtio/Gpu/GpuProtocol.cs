namespace Qkvm.Hw.Virtio.Gpu;

/// <summary>Virtio 1.2, section 5.7.6.7: enum virtio_gpu_ctrl_type and what structures are long.</summary>
static class GpuProtocol
{
    public const uint GetDisplayInfo = 0x0100, ResourceCreate2d = 0x0101, ResourceUnref = 0x0102, SetScanout = 0x0103,
        ResourceFlush = 0x0104, TransferToHost2d = 0x0105, ResourceAttachBacking = 0x0106,
        ResourceDetachBacking = 0x0107, GetEdid = 0x010A, UpdateCursor = 0x0300, MoveCursor = 0x0301;

    public const uint OkNoData = 0x1100, OkDisplayInfo = 0x1101, OkEdid = 0x1104;

    public const uint Unspecified = 0x1200, OutOfMemory = 0x1201, InvalidScanout = 0x1202, InvalidResource = 0x1203,
        InvalidParameter = 0x1205;

    public const uint FlagFence = 1;

    /// <summary>struct virtio_gpu_ctrl_hdr: type, flags, fence_id, ctx_id, ring_idx.</summary>
    public const int HeaderSize = 24, FlagsAt = 4, FenceAt = 8;

    /// <summary>The longest command without the entries of a backing; one of those; the longest answers.</summary>
    public const int MostCommand = 56, EntrySize = 16, MostScanouts = 16, DisplaySize = 24, EdidRoom = 1024,
        MostAnswer = HeaderSize + 8 + EdidRoom;
}
