using Iced.Intel;

namespace Qkvm.Accel.Tcg.Thunks;

// SAFETY: thunks and forms live as long as the program.
/// <summary>Thunks by instruction, each emitted once for all vCPUs. Registers are parameters, so that opcodes and
/// immediate bytes alone tell thunks apart: programs use some thousands; a hostile one may make some hundred thousands
/// of EVEX with their immediates, which is below <see cref="CodeArena.Limit"/>.</summary>
sealed unsafe class ThunkCache
{
    readonly Dictionary<ulong, Thunk> _thunks = [];
    readonly Dictionary<ulong, nint> _evex = [];
    readonly CodeArena _arena = new("thunks");
    readonly Lock _lock = new();

    /// <summary>For an instruction on vector registers.</summary>
    public Thunk Vector(in Instruction x)
    {
        ulong key = Key(x);
        lock (_lock)
        {
            if (_thunks.TryGetValue(key, out Thunk thunk)) return thunk;
            var writer = new VectorThunkWriter();
            byte[] code = writer.Write(x);
            thunk = new Thunk((nint)_arena.Add(code), writer.Traits, writer.MemorySize);
            _thunks.Add(key, thunk);
            return thunk;
        }
    }

    /// <summary>For an instruction of AVX-512; masks, rounding and broadcasts count as part of the opcode.</summary>
    public EvexForm* Evex(in Instruction x)
    {
        ulong key = Key(x) | (x.HasOpMask ? 1UL << 32 : 0) | (x.ZeroingMasking ? 1UL << 33 : 0)
            | (x.IsBroadcast ? 1UL << 34 : 0)
            | (x.SuppressAllExceptions ? 1UL << 35 : 0) | (ulong)x.RoundingControl << 36;
        lock (_lock)
        {
            if (_evex.TryGetValue(key, out nint known)) return (EvexForm*)known;
            var form = (EvexForm*)System.Runtime.InteropServices.NativeMemory.AllocZeroed((nuint)sizeof(EvexForm));
            form->Run =
                (delegate* unmanaged[SuppressGCTransition]<byte*,
                ulong>)_arena.Add(EvexThunkWriter.Write(x, ref *form));
            _evex.Add(key, (nint)form);
            return form;
        }
    }

    /// <summary>For an x87 instruction; its stack registers count as part of the opcode.</summary>
    public Thunk X87(in Instruction x)
    {
        ulong key = Key(x);
        for (int i = 0; i < x.OpCount; i++)
            if (x.GetOpKind(i) == OpKind.Register) key |= (ulong)(x.GetOpRegister(i).GetNumber() + 1) << 32 + i * 8;
        lock (_lock)
        {
            if (_thunks.TryGetValue(key, out Thunk thunk)) return thunk;
            byte[] code = X87ThunkWriter.Write(x, out ThunkTraits traits, out byte size);
            thunk = new Thunk((nint)_arena.Add(code), traits, size);
            _thunks.Add(key, thunk);
            return thunk;
        }
    }

    /// <summary>A function of this machine code: position-independent, System V calling convention.</summary>
    public byte* Add(ReadOnlySpan<byte> code)
    {
        lock (_lock) return _arena.Add(code);
    }

    static ulong Key(in Instruction x)
    {
        ulong key = (ulong)x.Code;
        for (int i = 0; i < x.OpCount; i++)
        {
            OpKind kind = x.GetOpKind(i);
            if (kind == OpKind.Immediate8) key |= (ulong)x.Immediate8 << 16;
            else if (kind == OpKind.Memory) key |= 1UL << 24;
        }
        return key;
    }
}
