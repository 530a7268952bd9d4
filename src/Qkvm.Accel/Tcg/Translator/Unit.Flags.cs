using Iced.Intel;

namespace Qkvm.Accel.Tcg.Translator;

// Which flags somebody may still read.
// SAFETY: reads the copy of the guest's page, of two pages' size, at offsets that decoding has checked.
sealed unsafe partial class Unit
{
    /// <summary>Backwards: which flags each instruction must leave as it finds them.</summary>
    void FindLiveFlags()
    {
        int live = Count == 0 ? 0 : LiveAtEnd(Steps[Count - 1]);
        for (int i = Count - 1; i >= 0; i--)
        {
            ref Step step = ref Steps[i];
            if (step.Treatment is Treatment.JumpIf or Treatment.JumpIfCxZero or Treatment.Loop)
            {
                step.LiveAtTarget = (byte)LiveAt(step.Target, 2);
                live |= step.LiveAtTarget;
            }
            step.LiveAfter = (byte)live;
            live = step.Treatment is Treatment.Interpret or >= Treatment.SystemCall ? AllFlags
                : live & ~step.Info.KilledBy(step.X) | step.Info.Reads;
            step.LiveBefore = (byte)live;
        }
    }

    int LiveAtEnd(in Step last) => last.Treatment switch
    {
        Treatment.Jump or Treatment.Call => LiveAt(last.Target, 2),
        Treatment.JumpIndirect or Treatment.CallIndirect or Treatment.Return or Treatment.Interpret or
            >= Treatment.SystemCall => AllFlags,
        _ => LiveAt(last.Following, 2),
    };

    int LiveAt(int offset, int branches) => LiveAt(offset, branches, stackalloc int[MostBranches + 1]);

    const int MostBranches = 2;

    /// <summary>Flags that code at a place may read before it sets them.</summary>
    /// <param name="branches">How many conditional jumps are looked behind.</param>
    /// <param name="begun">Where those looks began: what leads back there is a loop, which by itself reads no
    /// more.</param>
    int LiveAt(int offset, int branches, Span<int> begun)
    {
        const int reach = 8;
        int read = 0, killed = 0;
        begun[branches] = offset;
        for (int i = 0; i < reach; i++)
        {
            if (offset is < 0 or >= PageSize || !TryDecode(offset, out Instruction x)) break;
            OpInfo info = OpInfo.Of(x);
            if (info.Treatment is Treatment.Interpret or >= Treatment.SystemCall || x.Code == Code.INVALID
                || !_cpu.IsSupported(x.Code)) break;
            read |= info.Reads & ~killed;
            killed |= info.KilledBy(x);
            if ((read | killed) == AllFlags) return read;
            offset += x.Length;
            if (x.FlowControl == FlowControl.Next) continue;
            if (!CanBranch(x, info.Treatment)) break;
            if (x.FlowControl == FlowControl.ConditionalBranch)
            {
                int target = TargetOf(x);
                bool isLoop = begun[branches..].Contains(target);
                if (branches == 0 && !isLoop) break;
                int taken = isLoop ? 0 : LiveAt(target, branches - 1, begun);
                if (branches == 0) continue;
                return read | ~killed & (taken | LiveAt(offset, branches - 1, begun)) & AllFlags;
            }
            if (x.FlowControl != FlowControl.UnconditionalBranch) break;
            offset = TargetOf(x);
        }
        return read | ~killed & AllFlags;
    }
}
