using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Machines.Pc;
using Qkvm.Testing;

namespace Qkvm.Machines.Tests;

/// <summary>A PC with a fake accelerator and a BIOS of recognizable bytes; it executes nothing.</summary>
sealed class TestMachine : IDisposable
{
    public const int BiosSize = 256 << 10;

    readonly MachineEnvironment _environment = new();
    readonly string _bios = Path.GetTempFileName();

    public TestMachine(Func<MachineConfig, MachineConfig>? configure = null, DeviceModel[]? catalogue = null,
        MachineBackends? backends = null, bool hasSmm = false)
    {
        Accelerator = new FakeAccelerator { HasSmm = hasSmm };
        byte[] bios = new byte[BiosSize];
        for (int i = 0; i < bios.Length; i++) bios[i] = (byte)(i >> 8 ^ i);
        File.WriteAllBytes(_bios, bios);
        var config = new MachineConfig { Firmware = new FirmwareConfig(_bios), StartPaused = true };
        Machine = new Machine(_environment, configure?.Invoke(config) ?? config, Accelerator,
            new Catalogue<DeviceModel>("valid device model name", catalogue ?? []), backends ?? new MachineBackends(),
            Messages);
        Machine.Events.Raised += Events.Add;
        Board = (PcBoard)Machine.Board;
    }

    public FakeAccelerator Accelerator { get; }
    public StringWriter Messages { get; } = new();
    public List<MachineEvent> Events { get; } = [];
    public Machine Machine { get; }
    public PcBoard Board { get; }

    /// <summary>Runs the main loop on another thread for the time of a test.</summary>
    public Thread StartLoop()
    {
        var thread = new Thread(() => Machine.Run());
        thread.Start();
        return thread;
    }

    /// <summary>Does something on the main loop and waits for it.</summary>
    public void OnLoop(Action action)
    {
        using var done = new ManualResetEventSlim();
        _environment.Loop.Post(() => { action(); done.Set(); });
        Assert.True(done.Wait(TimeSpan.FromSeconds(30)), "the main loop does not answer");
    }

    public uint ReadConfig(int slot, int function, int register, int size = 4)
    {
        Board.Ports.Write(0xCF8, 4, 0x8000_0000u | (uint)slot << 11 | (uint)function << 8 | (uint)(register & ~3));
        return (uint)Board.Ports.Read(0xCFC + (ulong)(register & 3), size);
    }

    public void WriteConfig(int slot, int function, int register, int size, uint value)
    {
        Board.Ports.Write(0xCF8, 4, 0x8000_0000u | (uint)slot << 11 | (uint)function << 8 | (uint)(register & ~3));
        Board.Ports.Write(0xCFC + (ulong)(register & 3), size, value);
    }

    public void Dispose()
    {
        Machine.Dispose();
        _environment.Dispose();
        File.Delete(_bios);
    }
}
