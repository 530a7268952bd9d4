using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>What wraps and what has limits in real-address mode, in translated code: IP, SP, operands at FFFFh,
/// strings. The interrupt handlers halt; what they find on the stack says what happened.</summary>
public sealed unsafe class TranslatedSegmentTests : IDisposable
{
    const ushort Code = 0x1000, Data = 0x2000, Stack = 0x3000, Handlers = 0xF000;
    const ulong CodeBase = Code << 4, DataBase = Data << 4, StackBase = Stack << 4;

    readonly GuestMachine _machine = new();

    CpuState* S => _machine.S;
    byte* Ram => _machine.Ram.Pointer;

    public void Dispose() => _machine.Dispose();

    /// <summary>Runs to HLT; the vector whose handler that was in, or -1.</summary>
    int Run(ushort ip, Action<Assembler> program, int bits = 16)
    {
        _machine.Cpu.Translates = true;
        for (uint vector = 0; vector < 32; vector++)
        {
            _machine.Memory.Write(vector * 4, 4, (uint)Handlers << 16 | vector * 4);
            _machine.Memory.Write(((ulong)Handlers << 4) + vector * 4, [0xF4]);
        }
        var assembler = new Assembler(bits);
        program(assembler);
        using var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), ip);
        byte[] code = stream.ToArray();
        // Behind FFFFh code goes on at 0.
        int first = Math.Min(code.Length, 0x10000 - ip);
        _machine.Memory.Write(CodeBase + ip, code[..first]);
        if (first < code.Length) _machine.Memory.Write(CodeBase, code[first..]);
        for (int i = 0; i < Seg.Count; i++)
        {
            ushort selector = i switch { Seg.Cs => Code, Seg.Ss => Stack, _ => Data };
            S->Segment(i) = new Segment { Selector = selector, Base = (ulong)selector << 4, Limit = 0xFFFF,
                Access = 0x93 };
        }
        S->Cr0 = Cr0.Et;
        S->WaitForSipi = 0;
        if (S->Gpr[4] == 0) S->Gpr[4] = 0x8000;
        _machine.Cpu.ModeChanged();
        _machine.RunToHalt(ip);
        return S->Cs.Selector == Handlers ? (int)(S->Rip - 1) / 4 : -1;
    }

    ushort Pushed(int index) => *(ushort*)(Ram + StackBase + (ushort)(S->Gpr[4] + (ulong)(index * 2)));

    [Fact]
    public void AJumpBeyondFFFFComesOutAtTheStart()
    {
        _machine.Memory.Write(CodeBase + 0x10, [0xB0, 0x2A, 0xF4]);             // mov al,42; hlt
        Assert.Equal(-1, Run(0xFFF0, a => a.db(0xE9, 0x1D, 0x00)));             // jmp +1Dh
        Assert.Equal(42, (byte)S->Gpr[0]);
    }

    [Fact]
    public void CodeThatRunsIntoFFFFFaults()
    {
        Assert.Equal(Vector.GeneralProtection, Run(0xFFFD, a => a.mov(ax, 7)));
        Assert.Equal((7UL, (ushort)0, Code), (S->Gpr[0], Pushed(0), Pushed(1)));
    }

    [Fact]
    public void AReturnAddressIsTheOffsetInCs()
    {
        Assert.Equal(-1, Run(0x1234, a =>
        {
            Label function = a.CreateLabel();
            a.call(function);
            a.hlt();
            a.Label(ref function);
            a.pop(bx);
            a.push(bx);
            a.ret();
        }));
        Assert.Equal(0x1237UL, S->Gpr[3]);
    }

    [Fact]
    public void SpWrapsAndKeepsTheUpperHalfOfEsp()
    {
        S->Gpr[4] = 0xABCD0002;
        Run(0x100, a =>
        {
            a.mov(eax, 0x11223344);
            a.push(ax);
            a.push(eax);
            a.hlt();
        });
        Assert.Equal((0xABCDFFFCUL, 0x11223344u, (ushort)0x3344),
            (S->Gpr[4], *(uint*)(Ram + StackBase + 0xFFFC), *(ushort*)(Ram + StackBase)));
    }

    [Fact]
    public void AnOperandThatCrossesFFFFFaults()
    {
        Assert.Equal(Vector.GeneralProtection, Run(0x100, a => a.mov(__word_ptr[0xFFFF], ax)));
        Assert.Equal(0x100, Pushed(0));
        Assert.Equal(Vector.StackFault, Run(0x100, a =>
        {
            a.mov(bp, 0xFFFD);
            a.mov(eax, __dword_ptr[bp]);
        }));
        Assert.Equal(Vector.GeneralProtection, Run(0x100, a =>
        {
            a.mov(ebx, 0x10000);
            a.mov(__byte_ptr[ebx], al);
        }));
        Assert.Equal(-1, Run(0x100, a =>
        {
            a.mov(__byte_ptr[0xFFFF], 9);
            a.hlt();
        }));
        Assert.Equal(9, Ram[DataBase + 0xFFFF]);
    }

    [Fact]
    public void AddressesOf16BitsWrap()
    {
        Ram[DataBase + 4] = 77;
        Run(0x100, a =>
        {
            a.mov(bx, 0xFFF0);
            a.mov(si, 0x14);
            a.mov(al, __byte_ptr[bx + si]);
            a.lea(ecx, __[bx + si - 5]);
            a.hlt();
        });
        Assert.Equal((77, 0xFFFFUL), ((byte)S->Gpr[0], S->Gpr[1]));
    }

    [Fact]
    public void AGroupOfAccessesAroundAWrapGoesApart()
    {
        S->Gpr[4] = 2;
        Run(0x100, a =>
        {
            a.mov(bp, 2);
            a.mov(__word_ptr[bp - 4], 0x1111);
            a.mov(__word_ptr[bp - 2], 0x2222);
            a.mov(__word_ptr[bp + 2], 0x3333);
            a.hlt();
        });
        Assert.Equal((0x1111, 0x2222, 0x3333),
            (*(ushort*)(Ram + StackBase + 0xFFFE), *(ushort*)(Ram + StackBase), *(ushort*)(Ram + StackBase + 4)));
    }

    [Fact]
    public void ASegmentLoadMovesTheAccessesBehindIt()
    {
        (Ram[0x40000], Ram[DataBase], Ram[0x50010]) = (1, 2, 3);
        *(uint*)(Ram + DataBase + 8) = 0x50000010;
        Run(0x100, a =>
        {
            a.mov(al, __byte_ptr[0]);
            a.les(bx, __dword_ptr[8]);
            a.mov(cx, 0x4000);
            a.mov(ds, cx);
            a.mov(ah, __byte_ptr[0]);
            a.mov(dl, __byte_ptr.es[bx]);
            a.push(ds);
            a.pop(es);
            a.mov(dh, __byte_ptr.es[0]);
            a.hlt();
        });
        Assert.Equal((0x0102UL, 0x0103UL), (S->Gpr[0] & 0xFFFF, S->Gpr[2] & 0xFFFF));
        Assert.Equal(((ushort)0x4000, 0x40000UL), (S->Es.Selector, S->Es.Base));
    }

    [Fact]
    public void AStringThatReachesFFFFGoesOnAtTheStart()
    {
        S->Gpr[0] = 0x5A;
        Run(0x100, a =>
        {
            a.mov(ecx, 0xABCD0020);
            a.mov(edi, 0x1234FFF0);
            a.rep.stosb();
            a.hlt();
        });
        Assert.Equal((0x5A, 0x5A, 0, 0),
            (Ram[DataBase + 0xFFFF], Ram[DataBase + 15], Ram[DataBase + 16], Ram[DataBase + 0x10000]));
        Assert.Equal((0xABCD0000UL, 0x12340010UL), (S->Gpr[1], S->Gpr[7]));
    }

    [Fact]
    public void LoopsCountInCxOrEcx()
    {
        Run(0x100, a =>
        {
            Label first = a.CreateLabel(), second = a.CreateLabel(), end = a.CreateLabel();
            a.xor(ax, ax);
            a.mov(ecx, 0x70003);
            a.Label(ref first);
            a.inc(ax);
            a.loop(first);
            a.jcxz(second);
            a.mov(ah, 1);
            a.Label(ref second);
            a.mov(cx, 10);
            a.mov(dl, 4);
            Label third = a.CreateLabel();
            a.Label(ref third);
            a.dec(dl);
            a.loopne(third);
            a.Label(ref end);
            a.hlt();
        });
        Assert.Equal((3UL, 0x70006UL), (S->Gpr[0] & 0xFFFF, S->Gpr[1]));
    }
}
