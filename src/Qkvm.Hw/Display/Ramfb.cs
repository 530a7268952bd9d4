using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Display;

/// <summary>ramfb: a picture anywhere in guest memory, of which the firmware tells by a file of fw_cfg. Spec: QEMU's
/// etc/ramfb, 28 bytes, big endian: address, a DRM format, flags, width, height, stride.</summary>
public sealed class Ramfb : IDevice, IDisplaySource
{
    public static readonly DeviceModel Model = new("ramfb", BusKind.System, [],
        static (_, site) => new Ramfb(site)) { Category = DeviceCategory.Display, IsHotPluggable = false,
            Description = "picture in guest memory" };

    const string File = "etc/ramfb";
    const int Size = 28, FourCcAt = 8, WidthAt = 16, HeightAt = 20, StrideAt = 24;
    const uint Xrgb8888 = 0x34325258;                              // "XR24": what there is
    const int MostWidth = 16000, MostHeight = 12000, MaxPixels = 1 << 24, IdleWidth = 640, IdleHeight = 480;
    const int PixelSize = 4;

    readonly byte[] _file = new byte[Size];
    readonly Dma _memory;
    byte[] _row = [];                                              // not migrated: used inside Paint alone

    public Ramfb(DeviceSite site)
    {
        _memory = new Dma(site.Board.Memory);
        site.Board.AddWritableFirmwareFile(File, _file);
        site.AddDisplay(this);
    }

    public string Name => Model.Name;

    public void Reset() => Array.Clear(_file);

    /// <summary>What lies outside memory is black.</summary>
    public void Paint(FrameBuffer target)
    {
        uint width = Number(WidthAt), height = Number(HeightAt), stride = Number(StrideAt);
        ulong address = BinaryPrimitives.ReadUInt64BigEndian(_file);
        if (Number(FourCcAt) != Xrgb8888 || width is 0 or > MostWidth || height is 0 or > MostHeight)
        {
            target.Resize(IdleWidth, IdleHeight);
            target.Pixels.Clear();
            return;
        }
        if (stride == 0) stride = width * PixelSize;
        target.Resize((int)width, Math.Min((int)height, MaxPixels / (int)width));
        if (_row.Length != width * PixelSize) _row = new byte[width * PixelSize];
        for (int y = 0; y < target.Height; y++)
        {
            _memory.Read(address + (ulong)y * stride, _row);
            PackedPixels.Unpack(target.Row(y), _row, 32);
        }
    }

    public void Exchange(StateStream state) => state.Block("file", _file);

    uint Number(int at) => BinaryPrimitives.ReadUInt32BigEndian(_file.AsSpan(at));
}
