using Iced.Intel;
using Qkvm.Accel.Tcg.Translator;

namespace Qkvm.Accel.Tcg.Interpreter;

/// <summary>Each instruction through the translator, then through the interpreter from the same state; the first difference is told.</summary>
public sealed unsafe partial class Cpu
{
    public bool Lockstep { get; set; }

    void RunLockstep()
    {
        CpuState before, translated;
        while (_attention == 0 && _translatable)
        {
            ulong rip = State->Rip;
            Translation* block = FindTranslation(rip, true, false);
            if (block == null) { RunOne(); continue; }
            byte* bytes = block->Host;
            var decoder = Decoder.Create(_codeSize * 8, new ByteArrayCodeReader(new ReadOnlySpan<byte>(bytes, (int)Math.Min(16, PageSize - (rip & PageMask))).ToArray()));
            decoder.IP = rip;
            decoder.Decode(out Instruction x);
            OpInfo info = OpInfo.Of(x);
            if (info.Treatment == Treatment.Interpret || info.StoresMemory && info.LoadsMemory || x.Code == Code.INVALID) { RunOne(); continue; }
            before = *State;
            PackState();
            _jit->VectorsLoaded = 0;
            _hasEnteredHandler = false;
            Enter(block->Entry, _engine!.Common.Enter);
            while (TryContinue()) { }
            StoreX87();
            if (_hasEnteredHandler) continue;
            ulong flagsT = AllFlags;
            translated = *State;
            *State = before;
            RunOne();
            RflagsBits checkedFlags = (RflagsBits)block->LiveAfter & ~x.RflagsUndefined;
            ulong compared = 0;
            if (x.FlowControl != FlowControl.Next) checkedFlags = 0;       // what is alive differs between the ways
            if ((checkedFlags & RflagsBits.OF) != 0) compared |= 0x800;
            if ((checkedFlags & RflagsBits.SF) != 0) compared |= 0x80;
            if ((checkedFlags & RflagsBits.ZF) != 0) compared |= 0x40;
            if ((checkedFlags & RflagsBits.AF) != 0) compared |= 0x10;
            if ((checkedFlags & RflagsBits.CF) != 0) compared |= 1;
            if ((checkedFlags & RflagsBits.PF) != 0) compared |= 4;
            bool differs = translated.Rip != State->Rip || ((flagsT ^ AllFlags) & compared) != 0 && !(info.Kills == 0 && info.Changes != 0);
            for (int i = 0; i < 16; i++) differs |= translated.Gpr[i] != State->Gpr[i];
            differs |= !new ReadOnlySpan<byte>(translated.Xsave.Bytes + 160, 256).SequenceEqual(new ReadOnlySpan<byte>(State->Xsave.Bytes + 160, 256));
            if (!differs) continue;
            Console.Error.WriteLine($"lockstep: {rip:x} {x} {x.Code} rip {translated.Rip:x} {State->Rip:x} flags {flagsT:x} {AllFlags:x} before {before.RflagsSystem:x}");
            for (int i = 0; i < 16; i++)
                if (translated.Gpr[i] != State->Gpr[i]) Console.Error.WriteLine($"  r{i}: {before.Gpr[i]:x} -> {translated.Gpr[i]:x}, right {State->Gpr[i]:x}");
            if (++_differences > 20) Environment.Exit(3);
        }
    }

    int _differences;
}
