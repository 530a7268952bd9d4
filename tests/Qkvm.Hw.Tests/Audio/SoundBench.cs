using System.Buffers.Binary;
using Qkvm.Core.Audio;
using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Hw.Isa;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Audio;

/// <summary>A card in a machine with memory, ISA DMA and an ear.</summary>
sealed class SoundBench : IDisposable
{
    public const long Millisecond = 1_000_000, Second = 1000 * Millisecond;
    public const int HeardRate = 48000;

    readonly PciBench _pci = new();
    readonly DeviceBench _wires;
    readonly AudioHost _host = new("a", "test", HeardRate, 10 * Millisecond);

    public SoundBench()
    {
        _wires = new DeviceBench(_pci.Clock);
        _host.Add(Heard);
        Dma = new I8237Pair(new Dma(_pci.Memory.Space));
        Board = new FakeBoard(_wires) { Bus = _pci.Bus, Audio = _host, IsaDma = Dma, Ports = _pci.Memory.Ports };
    }

    public PciBench Pci => _pci;
    public FakeBoard Board { get; }
    public I8237Pair Dma { get; }
    public AudioHost Host => _host;
    public Heard Heard { get; } = new(new AudioFormat(HeardRate, SampleType.S16, 2));
    public FakeClock Clock => _pci.Clock;
    public TestMemory Memory => _pci.Memory;
    public bool Inta => _pci.Inta;
    public List<(ulong Address, uint Data)> Messages => _pci.Messages;

    /// <summary>How often the card has read or written another's registers, which it must not.</summary>
    public int Trespasses => Memory.Registers.Accesses;

    public IDevice Make(DeviceModel model, params (string, string)[] given) =>
        model.Create(FakeBoard.Defaults(model, given), Board.Site);

    /// <summary>A PCI card with its BARs one after the other from a port, or an address.</summary>
    public T Plug<T>(DeviceModel model, uint at) where T : PciDevice => Plug((T)Make(model), at);

    public T Plug<T>(T card, uint at) where T : PciDevice
    {
        _pci.Plug(card, 3);
        for (int bar = 0; bar < 6; bar++)
        {
            if (card.BarRegions[bar] is not { } region) continue;
            card.Bus.WriteConfig(card.DevFn, PciConfig.Bar0 + bar * 4, 4, at);
            at += (uint)region.Size;
        }
        return card;
    }

    public uint In(int port, int size = 4) => (uint)Memory.Ports.Read((ulong)port, size);
    public void Out(int port, uint value, int size = 4) => Memory.Ports.Write((ulong)port, size, value);

    public void Run(long milliseconds) => Clock.Advance(milliseconds * Millisecond);

    /// <summary>Writes stereo frames of 16 bits, or mono ones.</summary>
    public void PutTone(ulong address, int frames, int rate, double hertz = 440, SampleType type = SampleType.S16,
        int channels = 2)
    {
        var format = new AudioFormat(rate, type, channels);
        var bytes = new byte[frames * format.FrameSize];
        new Tone(format, hertz).Read(bytes);
        Memory.Space.Write(address, bytes);
    }

    public void PutDwords(ulong address, params uint[] values)
    {
        foreach (uint value in values)
        {
            Memory.Space.Write(address, 4, value);
            address += 4;
        }
    }

    public uint GetDword(ulong address) => BinaryPrimitives.ReadUInt32LittleEndian(Memory.Bytes(address, 4));

    public void Dispose() => _pci.Dispose();
}
