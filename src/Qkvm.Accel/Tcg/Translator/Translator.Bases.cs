using Iced.Intel;
using static Qkvm.Accel.Tcg.Translator.Emitter;

namespace Qkvm.Accel.Tcg.Translator;

// What kernels and their run-time libraries read and write all the time: the counter, the bases of FS and GS.
// SAFETY: what is emitted goes into room that was asked for (LargestBlock) and accesses the vCPU's own region, or RAM
// after a check.
sealed unsafe partial class Translator
{
    /// <summary>RDTSC and RDTSCP: C# reads the clock, and the block goes on.</summary>
    bool EmitReadTsc(in Step step)
    {
        ExitRecord* record = NewRecord(step.X.Code == Code.Rdtscp ? ExitKind.ReadTscAux
            : ExitKind.ReadTsc, step.Offset);
        if (record == null) return false;
        EmitExit(record, _flagsSaved ? _common.ExitSaved : _common.Exit);
        record->Host = _e.Here;
        _addend = null;
        return true;
    }

    /// <summary>RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE. Intel SDM vol. 2.</summary>
    bool EmitBase(in Step step)
    {
        ref readonly Instruction x = ref step.X;
        int guest = Unit.GuestNumber(x.Op0Register);
        bool wide = x.Op0Register.GetSize() == 8;
        ulong* place = SegmentBase(Unit.SegmentOfBase(x.Mnemonic));
        if (x.Mnemonic is Mnemonic.Rdfsbase or Mnemonic.Rdgsbase)
        {
            _e.Op(wide, Load, R10, place);
            if (Host(guest) is var host and not None) _e.Move(host, R10);
            else _e.StoreTo(Home(guest), R10);
            return true;
        }
        LoadGuest(R10, guest);
        if (!wide) _e.Move32(R10, R10);
        else
        {
            ExitRecord* slow = InterpretRecord(step.Offset);
            if (slow == null) return false;
            FreeFlagsKeepingR10(step.LiveBefore);
            EmitIsCanonical(R10);
            ExitIf(Above, slow);
        }
        _e.StoreTo(place, R10);
        return true;
    }

    /// <summary>Compares such that an address in no canonical half is "above". Changes R11.</summary>
    void EmitIsCanonical(int register)
    {
        _e.Move(R11, register);
        _e.Shift(true, Sar, R11, _mode.HasFiveLevels ? 56 : 47);
        _e.Op(true, Lea, R11, R11, None, 0, 1);
        _e.Arithmetic(true, Compare, R11, 1);
        _addend = null;
    }
}
