using Qkvm.Core.Display;
using Qkvm.Core.State;
using Qkvm.Hw.Display;

namespace Qkvm.Hw.Virtio.Gpu;

/// <summary>A monitor: the part of a picture that it shows, with the pointer over it. Virtio 1.2, sections 5.7.6.8 and
/// 5.7.6.10.</summary>
/// <param name="idle">What is shown while there is no picture; null: black.</param>
sealed class GpuScanout(IDisplaySource? idle) : IDisplaySource
{
    public const int CursorSide = 64;
    const int IdleWidth = 640, IdleHeight = 480, MaxPixels = 1 << 24;

    readonly uint[] _cursor = new uint[CursorSide * CursorSide];
    uint _x, _y, _width, _height, _resourceId;
    uint _cursorId, _cursorX, _cursorY, _hotX, _hotY;
    CursorShape? _shape;                                           // of the last four, made when somebody asks

    /// <summary>The size that somebody who watches has asked for last; null: nobody has.</summary>
    public (int Width, int Height)? Wish { get; private set; }     // not migrated: who watches asks again

    /// <summary>Somebody has asked.</summary>
    public event Action? Wished;

    /// <summary>Null: it shows nothing.</summary>
    public GpuResource? Resource { get; private set; }

    public uint ResourceId => _resourceId;

    public void Reset()
    {
        Show(null, default);
        (_cursorId, _cursorX, _cursorY, _hotX, _hotY) = (0, 0, 0, 0, 0);
        Array.Clear(_cursor);
        _shape = null;
    }

    /// <param name="part">Of the picture, within it.</param>
    public void Show(GpuResource? resource, in GpuRectangle part)
    {
        (Resource, _resourceId) = (resource, resource?.Id ?? 0);
        (_x, _y, _width, _height) = part;
    }

    /// <param name="shape">Null: there is no pointer.</param>
    public void SetCursor(GpuResource? shape, uint hotX, uint hotY)
    {
        _cursorId = shape?.Id ?? 0;
        (_hotX, _hotY) = (hotX, hotY);
        _shape = null;
        if (shape is not { Width: CursorSide, Height: CursorSide }) return;
        for (int i = 0; i < _cursor.Length; i++) _cursor[i] = shape.Raw(i % CursorSide, i / CursorSide);
    }

    public void MoveCursor(uint x, uint y) => (_cursorX, _cursorY) = (x, y);

    public CursorShape? Cursor => Resource == null ? null : _shape ??= _cursorId == 0 ? CursorShape.Hidden
        : new CursorShape(CursorSide, CursorSide, (int)Math.Min(_hotX, CursorSide - 1),
            (int)Math.Min(_hotY, CursorSide - 1), [.. _cursor]);

    public void Paint(FrameBuffer target)
    {
        PaintBare(target);
        if (Resource != null && _cursorId != 0) PaintCursor(target);
    }

    public void PaintBare(FrameBuffer target)
    {
        if (Resource == null && idle != null)
        {
            idle.Paint(target);
            return;
        }
        if (Resource == null)
        {
            target.Resize(IdleWidth, IdleHeight);
            target.Pixels.Clear();
            return;
        }
        target.Resize((int)_width, Math.Min((int)_height, MaxPixels / (int)_width));
        for (int y = 0; y < target.Height; y++) Resource.Paint(target.Row(y), (int)_x, (int)_y + y);
    }

    public bool PaintText(TextScreen target) => Resource == null && idle != null && idle.PaintText(target);

    public bool RequestSize(int width, int height)
    {
        if (width > Edid.MaxResolution || height > Edid.MaxResolution) return false;
        Wish = (width, height);
        Wished?.Invoke();
        return true;
    }

    public void Exchange(StateStream state, Func<uint, GpuResource?> find)
    {
        state.Field("x", ref _x);
        state.Field("y", ref _y);
        state.Field("width", ref _width);
        state.Field("height", ref _height);
        state.Field("resource", ref _resourceId);
        state.Field("cursor", ref _cursorId);
        state.Field("cursor-x", ref _cursorX);
        state.Field("cursor-y", ref _cursorY);
        state.Field("hot-x", ref _hotX);
        state.Field("hot-y", ref _hotY);
        for (int i = 0; i < CursorSide; i++)
        {
            StateStream row = state.Group("cursor-row", i);
            for (int j = 0; j < CursorSide; j++) row.Group("pixel", j).Field("value", ref _cursor[i * CursorSide + j]);
        }
        if (!state.IsLoading) return;
        _shape = null;
        Resource = _resourceId == 0 ? null : find(_resourceId);
        if (_resourceId != 0 && (Resource?.Contains(new(_x, _y, _width, _height)) != true || _width == 0))
            throw state.Refuse("resource", "there is no such picture");
    }

    /// <summary>Colours are multiplied by how much is seen already.</summary>
    void PaintCursor(FrameBuffer target)
    {
        long left = (long)_cursorX - _hotX, top = (long)_cursorY - _hotY;
        for (int y = 0; y < CursorSide; y++)
            for (int x = 0; x < CursorSide; x++)
            {
                long toX = left + x, toY = top + y;
                if (toX < 0 || toY < 0 || toX >= target.Width || toY >= target.Height) continue;
                ref uint pixel = ref target.Row((int)toY)[(int)toX];
                uint over = _cursor[y * CursorSide + x], rest = 255 - (over >> 24);
                pixel = Blend(pixel >> 16, over >> 16, rest) << 16 | Blend(pixel >> 8, over >> 8, rest) << 8
                    | Blend(pixel, over, rest);
            }

        static uint Blend(uint under, uint over, uint rest) => Math.Min(255, (over & 255) + (under & 255) * rest / 255);
    }
}
