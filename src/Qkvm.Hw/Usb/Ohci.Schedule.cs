namespace Qkvm.Hw.Usb;

/// <summary>Frames, and the lists of endpoints. Sections 4.2, 4.4, 5.2 and 6.4.</summary>
public sealed partial class Ohci
{
    const int MostLinks = 1024, MostDescriptors = 64, MostBytes = 512 << 10, FramesUnseen = 64, InterruptLists = 32;

    // The host controller communications area
    const uint HccaFrameNumber = 0x80, HccaDoneHead = 0x84;

    // Dwords of an endpoint descriptor
    const int EdControl = 0, EdTail = 1, EdHead = 2, EdNext = 3, EdWords = 4;
    const uint Skip = 1 << 14, IsIsochronous = 1 << 15, Halted = 1, ToggleCarry = 2;

    bool _happened;                                                // not migrated: of the pass that runs

    bool RunFrame()
    {
        int number = _frames.Number;
        _frameToggle = (_frameInterval & FIT) != 0;
        _happened = false;
        _interruptStatus |= SF | ((number & 0x7FFF) == 0 ? FNO : 0);
        if (!Dma.Write(_hcca + HccaFrameNumber, 4, (uint)number)) Fail();
        if (_doneDelay is not (NoDelay or NoInterrupt)) _doneDelay--;
        if ((_control & PLE) != 0 && _frames.IsRunning) WalkPeriodic((uint)number % InterruptLists);
        WalkLists();
        _flights.Sweep(FramesUnseen);
        HandOver();
        Apply();
        return _happened || (_interruptEnable & SF) != 0 || _doneDelay is not (NoDelay or NoInterrupt);
    }

    bool LookAgain()
    {
        _happened = false;
        if ((_control & PLE) != 0) WalkPeriodic((uint)_frames.Number % InterruptLists);
        WalkLists();
        HandOver();
        Apply();
        return _happened;
    }

    /// <summary>One frame's interrupt endpoints, and behind them the isochronous ones.</summary>
    void WalkPeriodic(uint list)
    {
        uint at = (uint)Dma.Read(_hcca + list * 4, 4) & DescriptorMask, mark = 0;
        Span<uint> endpoint = stackalloc uint[EdWords];
        for (int links = 0, until = 1; links < MostLinks && at != 0 && at != mark && _frames.IsRunning; links++)
        {
            if (--until == 0) (mark, until) = (at, links + 2);     // a circle comes back to it
            if (!Dma.ReadWords(at, endpoint)) { Fail(); return; }
            if ((endpoint[EdControl] & IsIsochronous) == 0) RunEndpoint(at, endpoint, most: 1);
            else if ((_control & IE) == 0) return;
            else RunIsochronous(at, endpoint);
            at = endpoint[EdNext] & DescriptorMask;
        }
    }

    void WalkLists()
    {
        if ((_control & CLE) != 0) WalkList(_controlHead, CLF);
        if ((_control & BLE) != 0) WalkList(_bulkHead, BLF);
    }

    /// <summary>Control or bulk endpoints, again until nothing moves. A list in which nobody has work is not filled any
    /// more.</summary>
    void WalkList(uint head, uint filled)
    {
        if ((_commandStatus & filled) == 0) return;
        Span<uint> endpoint = stackalloc uint[EdWords];
        int left = MostBytes, links = 0;
        bool moves = true, hasWork = true;
        while (moves && left > 0 && links < MostLinks)
        {
            moves = hasWork = false;
            for (uint at = head; at != 0 && links < MostLinks && _frames.IsRunning; links++)
            {
                if (!Dma.ReadWords(at, endpoint)) { Fail(); return; }
                int moved = RunEndpoint(at, endpoint, MostDescriptors);
                left -= Math.Max(moved, 0);
                moves |= moved >= 0;
                hasWork |= HasWork(endpoint);
                at = endpoint[EdNext] & DescriptorMask;
            }
        }
        if (!hasWork) _commandStatus &= ~filled;
    }

    static bool HasWork(ReadOnlySpan<uint> endpoint) => (endpoint[EdControl] & Skip) == 0
        && (endpoint[EdHead] & Halted) == 0 && ((endpoint[EdHead] ^ endpoint[EdTail]) & DescriptorMask) != 0;

    /// <summary>As many of its descriptors as end at once, up to a number.</summary>
    /// <returns>Bytes that were moved, or <see cref="Nothing"/>.</returns>
    int RunEndpoint(uint at, Span<uint> endpoint, int most)
    {
        int moved = Nothing;
        for (int i = 0; i < most && HasWork(endpoint); i++)
        {
            int bytes = Execute(at, endpoint);
            if (bytes == Nothing) return moved;
            moved = Math.Max(moved, 0) + bytes;
            _happened = true;
        }
        if ((endpoint[EdControl] & Skip) != 0 || (endpoint[EdHead] & Halted) != 0)
            _flights.Drop(endpoint[EdHead] & DescriptorMask);      // the driver may take it away
        return moved;
    }

    /// <summary>Gives the descriptors that are done to the driver, once it has taken those before.</summary>
    void HandOver()
    {
        if (_doneHead == 0 || _doneDelay != NoDelay || (_interruptStatus & WDH) != 0) return;
        uint others = (_interruptStatus & _interruptEnable & Events) != 0 ? 1u : 0;
        if (!Dma.Write(_hcca + HccaDoneHead, 4, _doneHead | others)) { Fail(); return; }
        (_doneHead, _doneDelay) = (0, NoInterrupt);
        _interruptStatus |= WDH;
        _happened = true;
    }

    /// <summary>The lists make no sense, or are no memory: the controller stops until it is reset.</summary>
    void Fail()
    {
        _interruptStatus |= UE;
        StopFrames();
        _happened = true;
    }
}
