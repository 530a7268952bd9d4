using Qkvm.Accel.Tcg;

namespace Qkvm.Accel.Tests;

/// <summary>Intel SDM vol. 3, chapter 4.</summary>
public sealed unsafe class PagingTests
{
    const ulong P = 1, W = 2, U = 4, A = 0x20, D = 0x40, Ps = 0x80, G = 0x100, Nx = 1UL << 63;
    const ulong T = GuestMachine.Tables;

    public enum Access { Read, Write, Fetch }

    static uint? Try(GuestMachine machine, ulong linear, Access access)
    {
        try
        {
            if (access == Access.Read) machine.Cpu.ReadLinear<byte>(linear);
            else if (access == Access.Write) machine.Cpu.WriteLinear<byte>(linear, 1);
            else machine.Cpu.ProbeFetch(linear);
            return null;
        }
        catch (GuestFault fault)
        {
            Assert.Equal(Vector.PageFault, fault.Number);
            Assert.Equal(linear, machine.S->Cr2);
            return fault.ErrorCode;
        }
    }

    static GuestMachine Machine(PagingMode mode, int cpl = 0)
    {
        var machine = new GuestMachine(1, "max", ("la57", true), ("pku", true));
        machine.Flat(32, cpl);
        machine.Paging(mode);
        if (mode == PagingMode.FourLevels)
            for (ulong at = T; at < T + 0x3000; at += 8) machine.Memory.Write(at, 8, 0);
        return machine;
    }

    /// <summary>Maps linear 40201000h to physical 5000h through every level with these rights, the leaf having its
    /// own.</summary>
    static ulong Map(GuestMachine machine, PagingMode mode, ulong upper, ulong leaf)
    {
        const ulong linear = 0x40201000;
        int levels = mode switch { PagingMode.Legacy => 2, PagingMode.Pae => 3, PagingMode.FourLevels => 4, _ => 5 };
        int bits = levels == 2 ? 10 : 9, size = levels == 2 ? 4 : 8;
        ulong table = T;
        for (int level = levels; level >= 1; level--)
        {
            ulong index = linear >> (12 + bits * (level - 1)) & (1UL << bits) - 1;
            bool pointer = levels == 3 && level == 3;
            ulong entry = level == 1 ? 0x5000 | leaf : table + 0x1000 | (pointer ? P : upper);
            machine.Memory.Write(table + index * (ulong)size, size, entry);
            table += 0x1000;
        }
        machine.Cpu.FlushTlb(true);
        return linear;
    }

    public static TheoryData<PagingMode> Modes => [.. Enum.GetValues<PagingMode>()];

    [Theory]
    [MemberData(nameof(Modes))]
    public void AllModesTranslateAndSetAccessedAndDirty(PagingMode mode)
    {
        using GuestMachine machine = Machine(mode);
        ulong linear = Map(machine, mode, P | W | U, P | W | U);
        machine.Memory.Write(0x5123, 4, 0xCAFEBABE);
        int size = mode == PagingMode.Legacy ? 4 : 8;
        ulong leafTable =
            T + 0x1000
            * (ulong)(mode switch { PagingMode.Legacy => 1, PagingMode.Pae => 2, PagingMode.FourLevels => 3, _ => 4 });
        ulong leaf = leafTable + (linear >> 12 & (size == 4 ? 0x3FFu : 0x1FFu)) * (ulong)size;

        Assert.True(machine.Cpu.TryTranslate(linear + 0x123, out ulong physical));
        Assert.Equal(0x5123UL, physical);
        Assert.Equal(0x5000 | P | W | U, machine.Memory.Read(leaf, size));
        Assert.Equal(0xCAFEBABE, machine.Cpu.ReadLinear<uint>(linear + 0x123));
        Assert.Equal(0x5000 | P | W | U | A, machine.Memory.Read(leaf, size));
        machine.Cpu.WriteLinear<ushort>(linear + 0x10, 0x1234);
        Assert.Equal(0x5000 | P | W | U | A | D, machine.Memory.Read(leaf, size));
        Assert.Equal(0x1234UL, machine.Memory.Read(0x5010, 2));
    }

    // Section 4.6.1, table of rights; the error code of section 4.7.
    [Theory]
    // user reads, writes
    [InlineData(3, P | U, Access.Read, 0, 0, null)]
    [InlineData(3, P, Access.Read, 0, 0, 5u)]
    [InlineData(3, P | U, Access.Write, 0, 0, 7u)]
    [InlineData(3, P | U | W, Access.Write, 0, 0, null)]
    [InlineData(3, 0, Access.Write, 0, 0, 6u)]
    [InlineData(3, P | W, Access.Fetch, 0, 0, 0x15u)]
    [InlineData(3, P | U, Access.Fetch, 0, 0, null)]
    [InlineData(3, P | U | Nx, Access.Fetch, 0, 0, 0x15u)]
    // supervisor
    [InlineData(0, P, Access.Read, 0, 0, null)]
    [InlineData(0, P, Access.Write, 0, 0, 3u)]
    [InlineData(0, P, Access.Write, 1, 0, null)]                                     // CR0.WP clear
    [InlineData(0, P | Nx, Access.Fetch, 0, 0, 0x11u)]
    [InlineData(0, P | U, Access.Fetch, 0, 0, null)]
    [InlineData(0, P | U, Access.Fetch, 0, Cr4.Smep, 0x11u)]
    [InlineData(0, P | U, Access.Read, 0, Cr4.Smap, 1u)]
    [InlineData(0, P | U | W, Access.Write, 0, Cr4.Smap, 3u)]
    [InlineData(0, P | U | W, Access.Write, 2, Cr4.Smap, null)]                      // EFLAGS.AC set
    [InlineData(3, P | U | W, Access.Write, 2, Cr4.Smap, null)]
    // reserved bits
    [InlineData(0, P | 1UL << 45, Access.Read, 0, 0, 9u)]
    [InlineData(3, P | U | 1UL << 45, Access.Write, 0, 0, 15u)]
    public void RightsAreJudgedAsTheManualSays(int cpl, ulong leaf, Access access, int variant, ulong cr4, uint? error)
    {
        using GuestMachine machine = Machine(PagingMode.FourLevels, cpl);
        machine.S->Cr4 |= cr4;
        if (variant == 1) machine.S->Cr0 &= ~Cr0.Wp;
        if (variant == 2) machine.S->RflagsSystem |= Rflags.Ac;
        ulong linear = Map(machine, PagingMode.FourLevels, P | W | U, leaf);
        machine.Cpu.ModeChanged();
        Assert.Equal(error, Try(machine, linear, access));
    }

    [Fact]
    public void UpperLevelsRestrictLowerOnes()
    {
        using GuestMachine machine = Machine(PagingMode.FourLevels, cpl: 3);
        ulong linear = Map(machine, PagingMode.FourLevels, P | U, P | W | U);
        Assert.Equal(7u, Try(machine, linear, Access.Write));
        linear = Map(machine, PagingMode.FourLevels, P | W, P | W | U);
        Assert.Equal(5u, Try(machine, linear, Access.Read));
    }

    [Fact]
    public void WithoutNxeBit63IsReserved()
    {
        using GuestMachine machine = Machine(PagingMode.FourLevels);
        ulong linear = Map(machine, PagingMode.FourLevels, P | W | U, P | Nx);
        Assert.Null(Try(machine, linear, Access.Read));
        machine.S->Efer &= ~Efer.Nx;
        machine.Cpu.ModeChanged();
        Assert.Equal(9u, Try(machine, linear, Access.Read));
    }

    // Section 4.6.2.
    [Theory]
    [InlineData(0u, Access.Write, null)]
    [InlineData(1u, Access.Read, 0x25u)]
    [InlineData(2u, Access.Read, null)]
    [InlineData(2u, Access.Write, 0x27u)]
    [InlineData(3u, Access.Fetch, null)]
    public void ProtectionKeysLimitUserPages(uint rights, Access access, uint? error)
    {
        const int key = 5;
        using GuestMachine machine = Machine(PagingMode.FourLevels, cpl: 3);
        machine.S->Cr4 |= Cr4.Pke;
        machine.S->Pkru = rights << key * 2;
        machine.Cpu.ModeChanged();
        ulong linear = Map(machine, PagingMode.FourLevels, P | W | U, P | W | U | (ulong)key << 59);
        Assert.Equal(error, Try(machine, linear, access));
    }

    /// <summary>Section 4.7: the PK flag tells of the key alone, though the entries too forbid the access.</summary>
    [Theory]
    [InlineData(3, U, 2u, 0x27u)]
    [InlineData(3, U | W, 2u, 0x27u)]
    [InlineData(3, U, 0u, 7u)]
    [InlineData(0, U, 2u, 0x23u)]
    [InlineData(3, 0ul, 2u, 7u)]                                                    // no user page: no key
    public void A_denied_write_names_the_key(int cpl, ulong rights, uint pkru, uint error)
    {
        const int Key = 1;
        using GuestMachine machine = Machine(PagingMode.FourLevels, cpl);
        machine.S->Cr4 |= Cr4.Pke;
        machine.S->Cr0 |= Cr0.Wp;
        machine.S->Pkru = pkru << Key * 2;
        machine.Cpu.ModeChanged();
        ulong linear = Map(machine, PagingMode.FourLevels, P | rights, P | rights | (ulong)Key << 59);
        Assert.Equal(error, Try(machine, linear, Access.Write));
    }

    [Fact]
    public void LargePagesTranslateTheirWholeSize()
    {
        using GuestMachine machine = Machine(PagingMode.FourLevels);
        machine.Memory.Write(T, 8, T + 0x1000 | P | W | U);
        machine.Memory.Write(T + 0x1000, 8, T + 0x2000 | P | W | U);
        machine.Memory.Write(T + 0x1008, 8, 0 | P | W | U | Ps);                    // 1 GiB at 40000000h
        machine.Memory.Write(T + 0x2000, 8, 0x200000 | P | W | U | Ps);             // 2 MiB at 0
        Assert.True(machine.Cpu.TryTranslate(0x1ABCDE, out ulong physical));
        Assert.Equal(0x3ABCDEUL, physical);
        Assert.True(machine.Cpu.TryTranslate(0x47654321, out physical));
        Assert.Equal(0x7654321UL, physical);
        machine.Memory.Write(T + 0x2000, 8, 0x202000 | P | W | U | Ps);             // bit 13 is reserved
        Assert.Equal(9u, Try(machine, 0, Access.Read));
        machine.Memory.Write(T, 8, T + 0x1000 | P | Ps);                            // so is PS at the top
        Assert.Equal(9u, Try(machine, 0x1000, Access.Read));
    }

    [Fact]
    public void LegacyPagesOfFourMegabytesReachAbove4GigabytesByPse36()
    {
        using GuestMachine machine = Machine(PagingMode.Legacy);
        machine.Memory.Write(T + 4, 4, 0x400000 | P | W | Ps | 3 << 13);
        Assert.True(machine.Cpu.TryTranslate(0x412345, out ulong physical));
        Assert.Equal(0x3_00412345UL, physical);
        machine.Memory.Write(T + 4, 4, 0x400000 | P | Ps | 1 << 21);
        Assert.Equal(9u, Try(machine, 0x400000, Access.Read));
    }

    [Fact]
    public void TranslationsStayUntilTheyAreFlushed()
    {
        using GuestMachine machine = Machine(PagingMode.FourLevels);
        ulong linear = Map(machine, PagingMode.FourLevels, P | W | U, P | W);
        ulong leaf = T + 0x3000 + (linear >> 12 & 511) * 8;
        machine.Memory.Write(0x5000, 1, 0x55);
        machine.Memory.Write(0x6000, 1, 0x66);
        Assert.Equal(0x55, machine.Cpu.ReadLinear<byte>(linear));
        machine.Memory.Write(leaf, 8, 0x6000 | P | W);
        Assert.Equal(0x55, machine.Cpu.ReadLinear<byte>(linear));
        machine.Cpu.FlushTlbPage(linear);
        Assert.Equal(0x66, machine.Cpu.ReadLinear<byte>(linear));
    }

    [Fact]
    public void GlobalPagesSurviveALoadOfCr3()
    {
        using GuestMachine machine = Machine(PagingMode.FourLevels);
        machine.S->Cr4 |= Cr4.Pge;
        machine.Cpu.ModeChanged();
        ulong linear = Map(machine, PagingMode.FourLevels, P | W | U, P | W | G);
        ulong leaf = T + 0x3000 + (linear >> 12 & 511) * 8;
        machine.Memory.Write(0x5000, 1, 0x55);
        machine.Memory.Write(0x6000, 1, 0x66);
        Assert.Equal(0x55, machine.Cpu.ReadLinear<byte>(linear));
        machine.Memory.Write(leaf, 8, 0x6000 | P | W | G);
        machine.Cpu.FlushTlb(global: false);
        Assert.Equal(0x55, machine.Cpu.ReadLinear<byte>(linear));
        machine.Cpu.FlushTlb(global: true);
        Assert.Equal(0x66, machine.Cpu.ReadLinear<byte>(linear));
    }

    [Fact]
    public void InvlpgOfALargePageDropsAllOfIt()
    {
        using GuestMachine machine = Machine(PagingMode.FourLevels);
        machine.Memory.Write(T, 8, T + 0x1000 | P | W);
        machine.Memory.Write(T + 0x1000, 8, T + 0x2000 | P | W);
        machine.Memory.Write(T + 0x2000, 8, 0x200000 | P | W | Ps);
        machine.Memory.Write(0x201000, 1, 0x11);
        machine.Memory.Write(0x401000, 1, 0x22);
        Assert.Equal(0x11, machine.Cpu.ReadLinear<byte>(0x1000));
        machine.Memory.Write(T + 0x2000, 8, 0x400000 | P | W | Ps);
        machine.Cpu.FlushTlbPage(0x5000);
        Assert.Equal(0x22, machine.Cpu.ReadLinear<byte>(0x1000));
    }

    [Fact]
    public void AReadDoesNotLetALaterWriteSkipTheDirtyBit()
    {
        using GuestMachine machine = Machine(PagingMode.FourLevels);
        ulong linear = Map(machine, PagingMode.FourLevels, P | W | U, P | W);
        ulong leaf = T + 0x3000 + (linear >> 12 & 511) * 8;
        machine.Cpu.ReadLinear<byte>(linear);
        Assert.Equal(0UL, machine.Memory.Read(leaf, 8) & D);
        machine.Cpu.WriteLinear<byte>(linear, 1);
        Assert.Equal(D, machine.Memory.Read(leaf, 8) & D);
    }

    [Fact]
    public void AWriteOverTwoPagesIsAllOrNothing()
    {
        using GuestMachine machine = Machine(PagingMode.FourLevels);
        ulong linear = Map(machine, PagingMode.FourLevels, P | W | U, P | W);
        Assert.Throws<GuestFault>(() => machine.Cpu.WriteLinear(linear + 0xFFE, 0x11223344u));
        Assert.Equal(linear + 0x1000, machine.S->Cr2);
        Assert.Equal(0UL, machine.Memory.Read(0x5FFE, 2));
        machine.Memory.Write(T + 0x3000 + ((linear >> 12) + 1 & 511) * 8, 8, 0x8000 | P | W);
        machine.Cpu.WriteLinear(linear + 0xFFE, 0x11223344u);
        Assert.Equal(0x3344UL, machine.Memory.Read(0x5FFE, 2));
        Assert.Equal(0x1122UL, machine.Memory.Read(0x8000, 2));
        Assert.Equal(0x11223344u, machine.Cpu.ReadLinear<uint>(linear + 0xFFE));
        Assert.True(machine.Cpu.TryHost(linear + 0xFFE, 4, true) == null);
    }

    [Fact]
    public void RegistersAndRomAreReachedButNeverWrittenDirectly()
    {
        using GuestMachine machine = new();
        machine.Flat(32);
        machine.Bank.Value = 0x0123456789ABCDEF;
        Assert.Equal(0x89ABCDEFu, machine.Cpu.ReadLinear<uint>(GuestMachine.Registers));
        machine.Cpu.WriteLinear<ushort>(GuestMachine.Registers + 4, 0xBEEF);
        Assert.Equal([(4UL, 2, 0xBEEFUL)], machine.Bank.Writes);
        machine.Cpu.WriteLinear(GuestMachine.Rom, 0xFFFFFFFF);
        Assert.Equal(0u, machine.Cpu.ReadLinear<uint>(GuestMachine.Rom));
        Assert.True(machine.Cpu.TryHost(GuestMachine.Rom, 4, write: true) == null);
        Assert.False(machine.Cpu.TryHost(GuestMachine.Rom, 4, write: false) == null);
        Assert.True(machine.Cpu.TryHost(GuestMachine.Registers, 4, write: false) == null);
    }

    [Fact]
    public void AMovedRegionIsSeenAtItsNewPlace()
    {
        using GuestMachine machine = new();
        machine.Flat(32);
        machine.Bank.Value = 7;
        Assert.Equal(7u, machine.Cpu.ReadLinear<uint>(GuestMachine.Registers));
        machine.Root.Children.Single(region => region.Name == "registers").MoveTo(0x2000);
        machine.Cpu.AnswerCalls();
        Assert.NotEqual(7u, machine.Cpu.ReadLinear<uint>(GuestMachine.Registers));
        Assert.Equal(7u, machine.Cpu.ReadLinear<uint>(0x2000));
    }

    [Fact]
    public void SegmentLimitsAndTypesAreChecked()
    {
        using GuestMachine machine = new();
        machine.Flat(32);
        machine.S->Ds = new Segment { Selector = 16, Base = 0x1000, Limit = 0xFFF, Access = 0x4093 };
        machine.Cpu.Write<byte>(Seg.Ds, 0xFFF, 9);
        Assert.Equal(9UL, machine.Memory.Read(0x1FFF, 1));
        AssertFault(machine, Vector.GeneralProtection, () => machine.Cpu.Write<ushort>(Seg.Ds, 0xFFF, 9));
        machine.S->Ss = new Segment { Selector = 16, Limit = 0xFFF, Access = 0x4097 };   // expand down: 1000h upwards
        AssertFault(machine, Vector.StackFault, () => machine.Cpu.Read<byte>(Seg.Ss, 0xFFF));
        machine.Cpu.Read<uint>(Seg.Ss, 0x1000);
        machine.S->Es = new Segment { Selector = 16, Limit = 0xFFF, Access = 0x4091 };   // read-only
        machine.Cpu.Read<byte>(Seg.Es, 0);
        AssertFault(machine, Vector.GeneralProtection, () => machine.Cpu.Write<byte>(Seg.Es, 0, 0));
        machine.S->Fs = default;
        AssertFault(machine, Vector.GeneralProtection, () => machine.Cpu.Read<byte>(Seg.Fs, 0));
    }

    [Fact]
    public void NonCanonicalAddressesFaultWithoutAPageFault()
    {
        using GuestMachine machine = new();
        machine.Flat(64);
        AssertFault(machine, Vector.GeneralProtection, () => machine.Cpu.Read<byte>(Seg.Ds, 0x8000_0000_0000));
        AssertFault(machine, Vector.StackFault, () => machine.Cpu.Read<byte>(Seg.Ss, 0x8000_0000_0000));
        AssertFault(machine, Vector.GeneralProtection, () => machine.Cpu.ReadLinear<byte>(0x8000_0000_0000));
    }

    static void AssertFault(GuestMachine machine, int vector, Action action) =>
        Assert.Equal(vector, Assert.Throws<GuestFault>(action).Number);
}
