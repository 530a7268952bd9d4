using System.Numerics;
using System.Text;
using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Isa;

/// <summary>pci-testdev: counts writes to addresses that it announces. Spec: QEMU's docs/specs/pci-testdev.</summary>
/// <remarks>Deviations: the eventfd tests count their writes like the plain one.</remarks>
public sealed class PciTestDev : PciDevice
{
    public static readonly DeviceModel Model = new("pci-testdev", BusKind.Pci,
        [Property.Size("membar", 0, "size of an empty BAR 2, 0 for none")],
        static (properties, _) => new PciTestDev(properties.Size("membar"), properties.Owner));

    const ulong MemoryTestSize = 2048, PortTestSize = 128, MinimumBar = 16;
    const int Tests = 3;

    readonly TestBar _memory = new("mmio", 0, MemoryTestSize), _ports = new("portio", Tests, PortTestSize);

    public PciTestDev(ulong memoryBar, string owner)
        : base(new PciIdentity(0x1B36, 0x0005, 0x00FF00, HasInterruptPin: false), Model.Name)
    {
        Bar(0, MemoryRegion.Io("pci-testdev-mmio", MemoryTestSize * 2, _memory, AccessSizes.UpToDword),
            BarKind.Memory32);
        Bar(1, MemoryRegion.Io("pci-testdev-portio", PortTestSize * 2, _ports, AccessSizes.UpToDword), BarKind.Io);
        if (memoryBar == 0) return;
        if (!BitOperations.IsPow2(memoryBar) || memoryBar < MinimumBar)
            throw new ConfigurationException(
                $"{owner}: membar: {memoryBar} is not a power of two of at least {MinimumBar}");
        Bar(2, MemoryRegion.Io("pci-testdev-membar", memoryBar, new TestBar("membar", 0, 0), AccessSizes.UpToQword),
            BarKind.Prefetchable64);
    }

    protected override void ResetDevice()
    {
        _memory.Reset();
        _ports.Reset();
    }

    protected override void ExchangeDevice(StateStream state)
    {
        _memory.Exchange(state.Group("memory"));
        _ports.Exchange(state.Group("ports"));
    }

    /// <summary>A BAR that begins with the header of the chosen test.</summary>
    sealed class TestBar(string kind, int firstTest, ulong testSize) : IRegisterBank
    {
        // Header
        const int TestOffset = 0, Width = 1, OffsetOffset = 4, DataOffset = 8, CountOffset = 12, NameOffset = 16,
            HeaderSize = 64;
        const int WildcardTest = 1, DataMatchTest = 2, NoTest = -1;
        const byte MatchingData = 0xFA, OtherData = 0xCE;
        static readonly string[] Names = ["no-eventfd", "wildcard-eventfd", "datamatch-eventfd"];

        readonly byte[] _header = new byte[HeaderSize];
        readonly uint[] _counts = new uint[Tests];
        int _test = NoTest;

        public void Reset()
        {
            Array.Clear(_counts);
            Choose(NoTest);
        }

        public ulong Read(ulong offset, int size)
        {
            ulong value = 0;
            for (int i = 0; i < size && offset + (ulong)i < HeaderSize; i++)
                value |= (ulong)_header[(int)offset + i] << (i * 8);
            return value;
        }

        public void Write(ulong offset, int size, ulong value)
        {
            if (testSize == 0) return;
            if (offset == TestOffset) { Choose(value < Tests ? (int)value : NoTest); return; }
            if (_test == NoTest || offset != testSize + (ulong)(firstTest + _test) || size != 1) return;
            if (_test == DataMatchTest && (byte)value != MatchingData) return;
            _counts[_test]++;
            Put(CountOffset, _counts[_test]);
        }

        public void Exchange(StateStream state)
        {
            state.Field("test", ref _test);
            for (int i = 0; i < Tests; i++) state.Group("count", i).Field("value", ref _counts[i]);
            if (_test is < NoTest or >= Tests) throw new InvalidStateException("pci-testdev: impossible test");
            if (state.IsLoading) Show();
        }

        void Choose(int test)
        {
            _test = test;
            if (test != NoTest) _counts[test] = 0;
            Show();
        }

        void Show()
        {
            Array.Clear(_header);
            if (_test == NoTest) return;
            _header[TestOffset] = (byte)(firstTest + _test);
            _header[Width] = 1;
            Put(OffsetOffset, (uint)testSize + (uint)(firstTest + _test));
            Put(DataOffset, _test == WildcardTest ? OtherData : MatchingData);
            Put(CountOffset, _counts[_test]);
            Encoding.ASCII.GetBytes($"{kind}-{Names[_test]}", _header.AsSpan(NameOffset));
        }

        void Put(int offset, uint value)
        {
            for (int i = 0; i < 4; i++) _header[offset + i] = (byte)(value >> (i * 8));
        }
    }
}
