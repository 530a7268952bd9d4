using System.Diagnostics;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Input;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using Qkvm.Hw.Scsi;
using Qkvm.Hw.Usb;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Usb;

/// <summary>A driver that fills schedules, rings and registers with what looks right and is not, while devices come,
/// go and have news. Nothing may throw or stall, and no register may be a buffer.</summary>
sealed class UsbFuzz : IDisposable
{
    const int Steps = 400;
    const uint Area = 0x1_0000, AreaSize = 0x4000;                 // where all structures lie, on each other
    const uint XhciRuntime = 0x1000, XhciDoorbells = 0x2000;

    static readonly DeviceModel[] s_controllers = [Uhci.Piix3, Ohci.Model, Ehci.Models[0], Xhci.Model];

    readonly Random _random;
    readonly DeviceModel _model;
    readonly UsbBoard _board;
    readonly UsbStorage _stick;
    readonly Pump _pump = new();

    UsbFuzz(int seed)
    {
        _random = new Random(seed);
        _model = s_controllers[seed % s_controllers.Length];
        bool isFull = _model == Uhci.Piix3 || _model == Ohci.Model;
        _board = new UsbBoard(_model, UsbKeyboard.Model,
            isFull && _random.Next(2) == 0 ? UsbHub.Model : UsbPointer.Tablet);
        var backend = new BlockBackend("disk", _pump.Post);
        backend.Insert(new MemoryDisk(1 << 20));
        _stick = new UsbStorage("usb-storage", FakeBoard.Defaults(UsbStorage.Model),
            new ScsiDisk(backend, new ScsiOptions { Serial = "S1" }));
    }

    /// <summary>Until the time is over; each batch has a controller and a seed of its own.</summary>
    public static void Run(int seed, TimeSpan time, Action<string> print)
    {
        var clock = Stopwatch.StartNew();
        long steps = 0;
        for (; clock.Elapsed < time; seed++)
            try
            {
                using var fuzz = new UsbFuzz(seed);
                var batch = Stopwatch.StartNew();
                fuzz.RunBatch();
                steps += Steps;
                if (batch.Elapsed > TimeSpan.FromSeconds(20))
                    print($"seed {seed}: {fuzz._model.Name} took {batch.Elapsed}");
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"seed {seed}, {s_controllers[seed % s_controllers.Length].Name}: "
                    + e.Message, e);
            }
        print($"USB: {steps} steps, last seed {seed - 1}: nothing amiss");
    }

    public void Dispose() => _board.Dispose();

    void RunBatch()
    {
        for (int i = 0; i < Steps; i++)
        {
            if (i % 50 == 0) Start();
            Step();
            if (_random.Next(3) == 0) _pump.RunPosted();
        }
        _pump.RunPosted();
        Assert.Equal(0, _board.Pci.Memory.Registers.Accesses);
        _board.Controller.Reset();
        StateNode.Save(_board.Controller.Exchange);
    }

    void Step()
    {
        switch (_random.Next(12))
        {
            case < 5:
                for (int i = _random.Next(1, 40); i > 0; i--)
                    _board.Words(Area + (uint)_random.Next((int)AreaSize) & ~3u, Word());
                break;
            case 5: Register(_random.Next(0x100), Word()); break;
            case 6: Bell(); break;
            case 7: _board.Board.Input.Key(KeyCode.A, _random.Next(2) == 0); break;
            case 8: Plug(); break;
            case 9: Rarely(); break;
            default: _board.Run(_random.Next(1, 40)); break;
        }
    }

    void Plug()
    {
        UsbPort port = _board.Bus.Ports[^1];
        if (port.Device == _stick) port.Detach();
        else if (port.Device == null && _stick.Port == null) port.Attach(_stick);
    }

    void Rarely()
    {
        switch (_random.Next(6))
        {
            case 0: _board.Controller.Reset(); Start(); break;
            case 1: _board.Pci.Bus.WriteConfig(_board.Controller.DevFn, 4, 2, (uint)_random.Next(8)); break;
            case 2:
                StateNode state = StateNode.Save(_board.Controller.Exchange);
                state.Load(_board.Controller.Exchange);
                Assert.Equal(state.ToString(), _board.State());
                break;
            default: _board.Pci.Enable(_board.Controller); break;
        }
    }

    /// <summary>As a driver does, so that more than resets is reached.</summary>
    void Start()
    {
        _board.Place();
        for (uint at = 0; at < AreaSize; at += 4) _board.Words(Area + at, Word());
        int ports = _model == Xhci.Model ? 8 : 2;
        switch (_model.Name)
        {
            case "pci-ohci":
                for (int i = 0; i < ports; i++) Register(0x54 + i * 4, 0x10);
                Register(0x18, Area);
                Register(0x20, Area + 0x1000);
                Register(0x28, Area + 0x2000);
                Register(0x10, ~0u);
                Register(4, 0xBC);
                break;
            case "usb-ehci":
                Register(0x60, 1);
                for (int i = 0; i < ports; i++) { Register(0x64 + i * 4, 0x1100); Register(0x64 + i * 4, 0x1000); }
                Register(0x34, Area);
                Register(0x38, Area + 0x1000);
                Register(0x28, 0x3F);
                Register(0x20, 0x31);
                break;
            case "qemu-xhci":
                for (int i = 0; i < ports; i++) Register(0x440 + i * 16, 0x210);
                Register(0x78, 64);
                Register(0x70, Area);
                Register(0x58, Area + 0x1000 | 1);
                _board.Words(Area + 0x3F00, Area + 0x3000, 0, 64, 0);
                Register((int)XhciRuntime + 0x28, 1);
                Register((int)XhciRuntime + 0x38, Area + 0x3000);
                Register((int)XhciRuntime + 0x30, Area + 0x3F00);
                Register(0x40, 5);
                break;
            default:
                for (int i = 0; i < ports; i++)
                    foreach (ushort value in (ReadOnlySpan<ushort>)[0x200, 0, 4])
                        _board.Ports.Write(UsbBoard.Io + 16 + (uint)i * 2, 2, value);
                _board.Ports.Write(UsbBoard.Io + 8, 4, Area);
                _board.Ports.Write(UsbBoard.Io + 4, 2, 15);
                _board.Ports.Write(UsbBoard.Io, 2, 1);
                break;
        }
    }

    void Bell()
    {
        switch (_model.Name)
        {
            case "pci-ohci": Register(8, 6); break;
            case "usb-ehci": Register(0x20, 0x71); break;
            case "qemu-xhci": Register((int)XhciDoorbells + _random.Next(4) * 4, (uint)_random.Next(6)); break;
        }
        _board.Run(1);
    }

    void Register(int offset, uint value)
    {
        if (_model == Uhci.Piix3) _board.Ports.Write(UsbBoard.Io + (uint)(offset & 31), 1 << _random.Next(3), value);
        else _board.Words(UsbBoard.Mmio + (uint)(offset & ~3), value);
    }

    /// <summary>What may stand in a structure: links, tokens, lengths, buffers.</summary>
    uint Word()
    {
        uint place = Area + (uint)_random.Next((int)AreaSize / 32) * 32;
        return _random.Next(12) switch
        {
            < 4 => place | (uint)_random.Next(8),
            4 => 0x0080_0000 | (uint)_random.Next(64) << 24 | (uint)_random.Next(0x800), // UHCI: active
            5 => (uint)Pick<byte>(0x2D, 0x69, 0xE1) | (uint)_random.Next(4) << 8 | (uint)_random.Next(4) << 15
                | (uint)Pick(7, 0x7FF, 63, 17, _random.Next(0x800)) << 21,
            6 => (uint)_random.Next(3) << 8 | 0x80 | 3 << 10 | (uint)Pick(8, 18, 0, 64, 0x5000, 0x7FFF) << 16, // EHCI
            7 => (uint)_random.Next(4) | (uint)_random.Next(4) << 7 | (uint)_random.Next(4) << 11
                | (uint)Pick(8, 64, 1023) << 16 | (_random.Next(8) == 0 ? 0x8000u : 0),      // OHCI: an endpoint
            8 => 0xF000_0000 | (uint)_random.Next(4) << 19 | (uint)_random.Next(8) << 21,     // OHCI: a transfer
            9 => (uint)_random.Next(2) | (uint)_random.Next(1, 24) << 10 | (uint)_random.Next(4) << 24
                | (uint)_random.Next(64),                          // xHCI: what a block is
            10 => (uint)Pick(TestMemory.IoAddress, TestMemory.HoleAddress, TestMemory.RomAddress,
                TestMemory.RamSize - 5),
            _ => (uint)_random.NextInt64(),
        };
    }

    T Pick<T>(params ReadOnlySpan<T> from) => from[_random.Next(from.Length)];
}

public sealed class UsbFuzzTests
{
    [Fact]
    public void Random_drivers_break_no_controller() => UsbFuzz.Run(1, TimeSpan.FromSeconds(4), _ => { });
}
