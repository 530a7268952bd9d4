using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Hw.Virtio;
using Qkvm.Hw.Virtio.Gpu;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>Virtio 1.2, section 5.7.</summary>
public sealed class VirtioGpuTests : IDisposable
{
    const ulong Request = 0x20000, Answer = 0x22000, Pixels = 0x30_0000;
    const uint DisplayInfo = 0x100, Create = 0x101, Unref = 0x102, Scanout = 0x103, Flush = 0x104, Transfer = 0x105,
        Attach = 0x106, Detach = 0x107, GetEdid = 0x10A, UpdateCursor = 0x300, MoveCursor = 0x301;
    const uint Ok = 0x1100, Unspecified = 0x1200, OutOfMemory = 0x1201, InvalidScanout = 0x1202,
        InvalidResource = 0x1203, InvalidParameter = 0x1205;
    const uint Bgrx = 2;

    readonly PciBench _bench = new();
    readonly FakeBoard _board;
    readonly List<IDisplaySource> _screens = [];
    readonly FrameBuffer _picture = new();
    readonly VirtioGpu _gpu;
    readonly VirtioGuest _guest;

    public VirtioGpuTests()
    {
        _board = new FakeBoard(new DeviceBench(_bench.Clock)) { Memory = _bench.Memory.Space,
            Ports = _bench.Memory.Ports, Bus = _bench.Bus, Displays = _screens };
        _gpu = Make();
        _guest = new VirtioGuest(_bench, _gpu, new VirtioPciOptions(0x038000, 3, Legacy: false));
        _guest.Start();
    }

    public void Dispose() => _bench.Dispose();

    VirtioGpu Make() => new("gpu", FakeBoard.Defaults(VirtioGpuModels.Models[0], ("max_outputs", "2"),
        ("max_hostmem", "1M")), _board.Site);

    /// <summary>A command of dwords behind its header.</summary>
    /// <returns>The type of the answer.</returns>
    uint Do(uint type, params uint[] body) => Do(0, type, body);

    uint Do(int queue, uint type, uint[] body)
    {
        byte[] command = [.. new uint[] { type, 1, 0x1234, 0, 0, 0 }.Concat(body).SelectMany(BitConverter.GetBytes)];
        _bench.Memory.Space.Write(Request, command);
        _bench.Memory.Space.Write(Answer, new byte[2048]);
        _guest.Request(queue, (Request, command.Length), (Answer, -2048));
        Assert.NotNull(_guest.Queues[queue].TakeUsed());
        Assert.Equal((1u, 0x1234u), (Get(4), Get(8)));             // the fence
        return Get(0);
    }

    uint Get(int at) => BinaryPrimitives.ReadUInt32LittleEndian(_bench.Memory.Bytes(Answer + (ulong)at, 4));

    void Paint(int screen = 0) => _screens[screen].Paint(_picture);

    /// <summary>A picture of 64 by 64 with its memory, on the first monitor.</summary>
    void ShowPicture(uint format = Bgrx)
    {
        Assert.Equal(Ok, Do(Create, 7, format, 64, 64));
        Assert.Equal(Ok, Do(Attach, 7, 2, (uint)Pixels, 0, 4096, 0, (uint)Pixels + 0x8000, 0, 12288, 0));
        Assert.Equal(Ok, Do(Scanout, 0, 0, 64, 64, 0, 7));
    }

    /// <summary>Section 5.7.4: a viewer's wish is an event, and the size that the monitor prefers then.</summary>
    [Fact]
    public void A_wish_for_a_size_reaches_the_guest()
    {
        Assert.Equal(0u, _guest.Config(0, 4));
        Assert.True(_screens[1].RequestSize(800, 608));
        Assert.Equal(1u, _guest.Config(0, 4));
        Assert.Equal(0x1101u, Do(DisplayInfo));
        Assert.Equal((1280u, 800u, 1u), (Get(32), Get(36), Get(40)));
        Assert.Equal((800u, 608u, 1u), (Get(56), Get(60), Get(64)));
        _guest.Config(4, 4, 1);
        Assert.Equal(0u, _guest.Config(0, 4));
        Assert.False(_screens[0].RequestSize(100_000, 600));
        Assert.Equal(0u, _guest.Config(0, 4));
    }

    [Fact]
    public void It_is_1AF4_1050_with_two_queues_and_tells_of_its_monitors()
    {
        Assert.Equal(0x10501AF4u, _guest.Function.Config.Get32(PciConfig.VendorId));
        Assert.Equal(0x03800001u, _guest.Function.Config.Get32(PciConfig.RevisionId));
        Assert.Equal(2UL, _guest.Config(8, 4));
        Assert.Equal(2UL, _guest.Offered & 0xFF);                  // EDID, no 3D
        Assert.Equal(0x1101u, Do(DisplayInfo));
        Assert.Equal((1280u, 800u, 1u), (Get(24 + 8), Get(24 + 12), Get(24 + 16)));
        Assert.Equal(0u, Get(24 + 24 + 16));
        Assert.Equal(0x1104u, Do(GetEdid, 1, 0));
        Assert.Equal(0xFFFFFF00u, Get(32));
        Assert.Equal(InvalidParameter, Do(GetEdid, 2, 0));
    }

    [Theory]
    [InlineData(1u, 0x00112233u)] [InlineData(2u, 0x00112233u)] [InlineData(3u, 0x33221100u)]
    [InlineData(4u, 0x33221100u)] [InlineData(67u, 0x00332211u)] [InlineData(68u, 0x11223300u)]
    [InlineData(121u, 0x11223300u)] [InlineData(134u, 0x00332211u)]
    public void Each_format_has_its_bytes_in_its_order(uint format, uint pixel)
    {
        ShowPicture(format);
        _bench.Memory.Space.Write(Pixels + 4 * 5, 4, pixel);
        Do(Transfer, 0, 0, 64, 64, 0, 0, 7, 0);
        Paint();
        Assert.Equal(0x112233u, _picture.Row(0)[5]);
    }

    /// <summary>Rows of the picture lie from the offset on, over the entries of the backing.</summary>
    [Fact]
    public void A_part_is_transferred_from_its_offset_and_shown()
    {
        ShowPicture();
        _bench.Memory.Space.Write(Pixels + (10 * 64 + 20) * 4, 4, 0xAA0000);
        _bench.Memory.Space.Write(Pixels + 0x8000 + (4 * 64 + 20) * 4, 4, 0x00BB00);       // row 20: behind 16 rows
        Assert.Equal(Ok, Do(Transfer, 20, 10, 1, 11, (10 * 64 + 20) * 4, 0, 7, 0));
        Assert.Equal(Ok, Do(Flush, 0, 0, 64, 64, 7, 0));
        Paint();
        Assert.Equal((64, 64), (_picture.Width, _picture.Height));
        Assert.Equal((0xAA0000u, 0x00BB00u, 0u), (_picture.Row(10)[20], _picture.Row(20)[20], _picture.Row(10)[21]));
        Do(Scanout, 16, 8, 32, 16, 1, 7);
        Paint(1);
        Assert.Equal((32, 16), (_picture.Width, _picture.Height));
        Assert.Equal(0xAA0000u, _picture.Row(2)[4]);
        Do(Unref, 7, 0);
        Paint(1);
        Assert.Equal(640, _picture.Width);                         // nothing is shown
    }

    [Fact]
    public void The_pointer_lies_over_the_picture()
    {
        ShowPicture();
        Assert.Equal(Ok, Do(Create, 9, 1, 64, 64));
        Do(Attach, 9, 1, (uint)Pixels + 0x10000, 0, 64 * 64 * 4, 0);
        _bench.Memory.Space.Write(Pixels + 0x10000, 4, 0xFF00_00FF);
        _bench.Memory.Space.Write(Pixels + 0x10004, 4, 0x8000_8000);
        Do(Transfer, 0, 0, 64, 64, 0, 0, 9, 0);
        Assert.Equal(Ok, Do(1, UpdateCursor, [0, 30, 40, 0, 9, 2, 1, 0]));
        Paint();
        Assert.Equal((0x0000FFu, 0x008000u), (_picture.Row(39)[28], _picture.Row(39)[29]));
        Assert.Equal(Ok, Do(1, MoveCursor, [0, 0, 0, 0, 0, 0, 0, 0]));
        Paint();                                                   // partly outside
        Assert.Equal(0u, _picture.Row(39)[28]);
        Do(1, UpdateCursor, [0, 30, 40, 0, 0, 0, 0, 0]);
        Paint();
        Assert.Equal(-1, _picture.Pixels.IndexOfAnyExcept(0u));
    }

    [Fact]
    public void A_saved_state_shows_the_same()
    {
        ShowPicture();
        _bench.Memory.Space.Write(Pixels, 4, 0x123456);
        Do(Transfer, 0, 0, 64, 64, 0, 0, 7, 0);
        StateNode state = StateNode.Save(_gpu.Exchange);
        int before = _screens.Count;
        VirtioGpu loaded = Make();
        state.Load(loaded.Exchange);
        _screens[before].Paint(_picture);
        Assert.Equal(0x123456u, _picture.Row(0)[0]);
        Assert.Equal(state.ToString(), StateNode.Save(loaded.Exchange).ToString());
    }

    [Fact]
    public void A_reset_forgets_all_pictures()
    {
        ShowPicture();
        _guest.Start();
        Assert.Equal(InvalidResource, Do(Flush, 0, 0, 1, 1, 7, 0));
    }

    // Hostile guests

    [Theory]
    [InlineData(1u, 2u, 0u, 64u, InvalidParameter)] [InlineData(1u, 99u, 64u, 64u, InvalidParameter)]
    [InlineData(0u, 2u, 64u, 64u, InvalidResource)] [InlineData(1u, 2u, 0x10000u, 0x10000u, OutOfMemory)]
    [InlineData(1u, 2u, uint.MaxValue, uint.MaxValue, OutOfMemory)] [InlineData(1u, 2u, 512u, 513u, OutOfMemory)]
    [InlineData(1u, 2u, 512u, 512u, Ok)]
    public void Pictures_have_a_number_a_format_and_room_in_max_hostmem(uint id, uint format, uint width, uint height,
        uint expected)
    {
        Assert.Equal(expected, Do(Create, id, format, width, height));
        if (expected != Ok) return;
        Assert.Equal(InvalidResource, Do(Create, id, format, 1, 1));       // the number is taken
        Assert.Equal(OutOfMemory, Do(Create, 2, format, 1, 1));
        Do(Unref, id, 0);
        Assert.Equal(Ok, Do(Create, 2, format, 1, 1));
    }

    [Fact]
    public void Small_pictures_are_counted_too()
    {
        uint made = 0;
        while (Do(Create, made + 1, Bgrx, 1, 1) == Ok) made++;
        Assert.Equal(4096u, made);
    }

    [Theory]
    [InlineData(0u, 0u, 65u, 1u)] [InlineData(64u, 0u, 1u, 1u)] [InlineData(uint.MaxValue, 0u, 2u, 1u)]
    [InlineData(0u, uint.MaxValue, 1u, uint.MaxValue)]
    public void Rectangles_outside_the_picture_are_refused(uint x, uint y, uint width, uint height)
    {
        ShowPicture();
        Assert.Equal(InvalidParameter, Do(Transfer, x, y, width, height, 0, 0, 7, 0));
        Assert.Equal(InvalidParameter, Do(Scanout, x, y, width, height, 0, 7));
        Assert.Equal(InvalidParameter, Do(Flush, x, y, width, height, 7, 0));
    }

    [Theory]
    [InlineData(0u)] [InlineData(20000u)] [InlineData(uint.MaxValue)] [InlineData(4096u)]
    public void Entries_of_a_backing_are_counted_and_given(uint count)
    {
        Do(Create, 7, Bgrx, 64, 64);
        Assert.Equal(Unspecified, Do(Attach, 7, count, (uint)Pixels, 0, 4096, 0));
        Assert.Equal(Unspecified, Do(Transfer, 0, 0, 64, 64, 0, 0, 7, 0));
        Assert.Equal(InvalidResource, Do(Detach, 7, 0));
    }

    [Theory]
    [InlineData((uint)TestMemory.IoAddress, 0u, 16384u, 0u)] [InlineData(0xFFFFFFF0u, 0xFFFFFFFFu, 16384u, 0u)]
    [InlineData((uint)Pixels, 0u, 0u, 0u)] [InlineData((uint)Pixels, 0u, 100u, 0u)]
    [InlineData((uint)Pixels, 0u, 16384u, 0xFFFFFFFFu)]
    public void A_backing_outside_memory_or_too_short_does_no_harm(uint low, uint high, uint length, uint offset)
    {
        Do(Create, 7, Bgrx, 64, 64);
        Do(Attach, 7, 1, low, high, length, 0);
        Do(Scanout, 0, 0, 64, 64, 0, 7);
        Assert.Equal(Ok, Do(Transfer, 0, 0, 64, 64, offset, offset, 7, 0));
        Paint();
        Assert.Equal(0, _bench.Memory.Registers.Accesses);
    }

    [Fact]
    public void Monitors_and_numbers_that_are_not_there_are_refused()
    {
        ShowPicture();
        Assert.Equal(InvalidScanout, Do(Scanout, 0, 0, 64, 64, 2, 7));
        Assert.Equal(InvalidResource, Do(Scanout, 0, 0, 64, 64, 0, 8));
        Assert.Equal(InvalidParameter, Do(Scanout, 0, 0, 0, 64, 0, 7));
        Assert.Equal(InvalidScanout, Do(1, MoveCursor, [99, 0, 0, 0, 0, 0, 0, 0]));
        Assert.Equal(Ok, Do(1, UpdateCursor, [0, uint.MaxValue, uint.MaxValue, 0, 7, uint.MaxValue, 0, 0]));
        Paint();
        Assert.Equal(Unspecified, Do(0xDEAD));
        _bench.Memory.Space.Write(Request, 4, DisplayInfo);
        _guest.Request(0, (Request, 4), (Answer, -24));            // less than a header
        Assert.Equal(24u, _guest.Queues[0].TakeUsed()!.Value.Written);
        Assert.Equal(Unspecified, Get(0));
        _guest.Request(0, (Request, 24));                          // no room for an answer
        Assert.Equal(0u, _guest.Queues[0].TakeUsed()!.Value.Written);
    }
}
