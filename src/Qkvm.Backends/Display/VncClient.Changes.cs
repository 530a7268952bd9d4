using System.Text;
using Qkvm.Backends.Display.Encodings;
using Qkvm.Core.Display;
using Qkvm.Core.Input;

namespace Qkvm.Backends.Display;

/// <summary>What an update tells beside pixels, as rectangles of pseudo-encodings. Spec: RFC 6143, section 7.8, and the
/// protocol's community version.</summary>
sealed partial class VncClient
{
    // Why a screen has another size
    const int ByServer = 0, ByThisViewer = 1, ByAnotherViewer = 2;

    // What became of a viewer's wish
    internal const int Resized = 0, ResizeProhibited = 1, InvalidLayout = 3;

    CursorShape? _pointer;                                         // as it knows it
    bool _namePending, _keysPending, _pointerPending, _lightsPending, _layoutPending, _pointerIsAbsolute;
    int _layoutReason = ByServer, _layoutResult = Resized;
    KeyboardLocks _lights;                                         // as it knows them

    /// <summary>Rectangles of what changed since it was told last.</summary>
    int TellChanges(out bool isResized)
    {
        int told = 0;
        if (_keysPending) Tell(0, 0, VncEncodings.ExtendedKeys);
        _keysPending = false;
        bool isAbsolute = _server.Input.PointerIsAbsolute;
        if (_encodings.CanChangePointer && (_pointerPending || isAbsolute != _pointerIsAbsolute))
            Tell(isAbsolute ? 1 : 0, 0, VncEncodings.PointerTypeChange);
        (_pointerPending, _pointerIsAbsolute) = (false, isAbsolute);
        KeyboardLocks lights = _server.Input.Locks;
        if (_encodings.Lights != 0 && (_lightsPending || lights != _lights)) TellLights(lights);
        if (_namePending) TellName();
        if (_encodings.Pointers != 0 && _server.Pointer is { } pointer && pointer != _pointer) TellPointer(pointer);
        FrameBuffer picture = _server.Picture;
        isResized = (_encodings.CanResize || _encodings.CanChangeLayout)
            && (picture.Width != _width || picture.Height != _height);
        if (isResized)
        {
            (_width, _height) = (picture.Width, picture.Height);
            _tiles.MarkAll();
        }
        if (_encodings.CanChangeLayout && (isResized || _layoutPending)) TellLayout();
        else if (isResized) Tell(0, 0, VncEncodings.DesktopSize, _width, _height);
        return told;

        void Tell(int x, int y, int encoding, int width = 0, int height = 0)
        {
            told++;
            _message.Rectangle(new ScreenArea(x, y, width, height), encoding);
        }

        void TellLights(KeyboardLocks now)
        {
            Tell(0, 0, _encodings.Lights);
            if (_encodings.Lights == VncEncodings.LedState) _message.Byte((byte)now);
            else _message.Dword((int)now);
            (_lights, _lightsPending) = (now, false);
        }

        void TellName()
        {
            Tell(0, 0, VncEncodings.DesktopName);
            _message.Text(Encoding.UTF8.GetBytes(_server.Name));
            _namePending = false;
        }

        void TellPointer(CursorShape pointer)
        {
            Tell(pointer.HotX, pointer.HotY, _encodings.Pointers, pointer.Width, pointer.Height);
            VncPointer.Write(_message, pointer, _format, hasAlpha: _encodings.Pointers == VncEncodings.AlphaCursor);
            _pointer = pointer;
        }

        void TellLayout()
        {
            Tell(_layoutReason, _layoutResult, VncEncodings.ExtendedDesktopSize, _width, _height);
            _message.Dword(1 << 24);                               // one screen, and padding
            _message.Dword(0);                                     // its id
            _message.Dword(0);                                     // at 0, 0
            _message.Word(_width);
            _message.Word(_height);
            _message.Dword(0);
            (_layoutPending, _layoutReason, _layoutResult) = (false, ByServer, Resized);
        }
    }

    /// <summary>SetDesktopSize: one screen, at 0, 0, which the guest may be able to have.</summary>
    void TakeLayout(int width, int height, int screens)
    {
        _layoutResult = screens != 1 || width == 0 || height == 0 ? InvalidLayout
            : _server.RequestSize(width, height) ? Resized : ResizeProhibited;
        (_layoutPending, _layoutReason) = (true, ByThisViewer);
        _server.Schedule(soon: true);
    }
}
