using static Qkvm.Accel.Tcg.Translator.Emitter;

namespace Qkvm.Accel.Tcg.Translator;

// Ways in and out, and what happens on a miss.
// SAFETY: what is emitted goes into room that was asked for (LargestBlock) and accesses the vCPU's own region, or RAM
// after a check.
sealed unsafe partial class Translator
{
    static ReadOnlySpan<byte> HostOwned => [Rax, Rcx, Rdx, Rbx, Rbp, Rsi, Rdi, R8, R12, R13, R14, R15];

    void EmitExit(ExitRecord* record, uint through)
    {
        _e.MoveImmediate(R11, (ulong)record);
        _e.Jump(through);
    }

    void EmitStub(in Stub stub)
    {
        _e.PatchHere(stub.Hole);
        switch (stub.Kind)
        {
            case StubKind.Exit:
                EmitExit(stub.Record, stub.SaveFlags ? _common.Exit : _common.ExitSaved);
                break;
            case StubKind.Miss:
                EmitLinear(_unit.Groups[stub.Group], stub.Target);
                _e.MoveImmediate(R11, (ulong)stub.Record);
                if (_unit.Groups[stub.Group].Roams)
                {
                    _e.Op(false, 0xFF, 4, R11, None, 0, RecordTargetAt);                // jmp [r11 + Target]
                    break;
                }
                _e.Call(stub.Record->IsWrite != 0 ? _common.MissWrite : _common.MissRead);
                _e.Jump(stub.Record->Host);
                break;
            case StubKind.Return:
                _e.LoadFrom(Rcx, &_jit->Saved1);
                EmitExit(stub.Record, _common.Exit);
                break;
            case StubKind.MissCross:
                EmitExit(stub.Record, _mode.CodeBase != 0 ? _common.MissCrossSegmented : _common.MissCross);
                break;
            case StubKind.MissCrossKeepingFlags:
                _e.LoadFrom(Rcx, &_jit->Saved1);
                _e.SaveFlags(&_jit->Flags);
                LoadLinear(stub.Record->Offset & -PageSize);
                EmitExit(stub.Record, _common.MissCrossKeepingFlags);
                break;
            case StubKind.SecondPage:
                EmitExit(stub.Record, _common.MissSecondPage);
                break;
            case StubKind.Cross when stub.SaveFlags && _mode.Is64:
                EmitCrossKeepingFlags(stub.Record, polls: false);
                break;
            case StubKind.Cross:
                EmitCross(stub.Record, stub.SaveFlags);
                break;
            default:
                EmitStringStub(stub);
                break;
        }
    }

    Stubs EmitCommon()
    {
        var stubs = new Stubs { LoadVectors = _e.Here };
        EmitLoadVectors();
        _e.Byte(0xC3);
        stubs.LoadAll = EmitLoadAll(stubs.LoadVectors);

        stubs.EnterWithVectors = _e.Here;
        EmitPushes();
        _e.CompareByte(&_jit->VectorsLoaded, 0);
        uint skip = _e.JumpIf(Equal);
        _e.CompareByte(&_jit->VectorsLoaded, AllLoaded);
        uint all = _e.JumpIf(Equal);
        _e.Call(stubs.LoadVectors);
        uint join = _e.Jump();
        _e.PatchHere(all);
        _e.StoreByte(&_jit->VectorsLoaded, 0);
        _e.Call(stubs.LoadAll);
        _e.PatchHere(skip);
        uint joinAll = _e.Jump();
        stubs.Enter = _e.Here;
        EmitPushes();
        _e.PatchHere(join);
        _e.PatchHere(joinAll);
        _e.StoreTo(&_jit->Entry, Rdi);
        foreach (byte register in HostOwned) _e.LoadFrom(register, Home(register));
        _e.LoadFrom(HostRsp, Home(GuestRsp));
        _e.RestoreFlags(&_jit->Flags);
        _e.Op(false, 0xFF, 4, &_jit->Entry);                        // jmp [Entry]

        stubs.Exit = _e.Here;
        _e.StoreTo(&_jit->Saved0, R10);
        _e.SaveFlags(&_jit->Flags);
        _e.LoadFrom(R10, &_jit->Saved0);
        stubs.ExitSaved = _e.Here;
        _e.StoreTo(&_jit->Exit, R11);
        _e.StoreTo(&_jit->ExitValue, R10);
        foreach (byte register in HostOwned) _e.StoreTo(Home(register), register);
        _e.StoreTo(Home(GuestRsp), HostRsp);
        _e.CompareByte(&_jit->VectorsLoaded, 0);
        skip = _e.JumpIf(Equal);
        EmitStoreVectors();
        _e.PatchHere(skip);
        EmitPops();

        _common.ExitSaved = stubs.ExitSaved;
        stubs.MissRead = EmitMiss(ReadTagAt);
        stubs.MissWrite = EmitMiss(WriteTagAt);
        stubs.MissCross = EmitMissCross(moves: true);
        stubs.MissCrossSegmented = EmitMissCross(moves: true, isSegmented: true);
        stubs.MissCrossKeepingFlags = EmitMissCross(moves: true, keepsFlags: true);
        stubs.MissSecondPage = EmitMissCross(moves: false);

        stubs.LoadX87 = _e.Here;
        EmitFxsave(restore: true);
        stubs.StoreX87 = _e.Here;
        EmitFxsave(restore: false);
        return stubs;
    }

    const int PageShift = 12;
    const int ReadTagAt = 0, WriteTagAt = 8, HostAt = 16, AddendAt = 8, PageAt = 16;

    // push rbx rbp r12 r13 r14 r15
    void EmitPushes() => _e.Bytes([0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57]);
    void EmitPops() => _e.Bytes([0x41, 0x5F, 0x41, 0x5E, 0x41, 0x5D, 0x41, 0x5C, 0x5D, 0x5B, 0xC3]);

    /// <summary>Fills the slot from the TLB's current set, or goes to the record's fallback.</summary>
    uint EmitMiss(int tagAt)
    {
        uint start = _e.Here;
        _e.Op(false, 0x80, Compare, R11, None, 0, RecordMissesAt);  // cmp byte [r11 + Misses], most
        _e.Byte(ExitRecord.MostMisses);
        uint roams = _e.JumpIf(Equal);
        _e.StoreTo(&_jit->Saved0, Rax);
        _e.StoreTo(&_jit->Saved1, Rcx);
        _e.Move32(Rax, R10);
        _e.Arithmetic(false, And, Rax, PageSize - 1);
        _e.Byte(0x66);
        _e.Op(false, CompareLoad, Rax, R11, None, 0, RecordLimitAt);
        uint crosses = _e.JumpIf(Above);
        EmitLookUp(R10, &_jit->Tlb, TlbSet.Size);
        _e.Move(Rcx, R10);
        _e.Arithmetic(true, And, Rcx, -PageSize);
        _e.Op(true, CompareLoad, Rcx, Rax, None, 0, tagAt);
        uint absent = _e.JumpIf(NotEqual);
        _e.Op(true, Load, Rax, Rax, None, 0, HostAt);
        if (tagAt == WriteTagAt) EmitNoteStores();
        _e.Op(true, SubLoad, Rax, Rcx);
        _e.Op(true, Load, R10, R11, None, 0, RecordSlotAt);
        _e.Op(true, Store, Rax, R10, None, 0, AddendAt);
        _e.Op(true, Lea, Rax, Rax, Rcx, 0, 0);
        _e.Op(true, Store, Rax, R10, None, 0, PageAt);
        _e.Op(true, Store, Rcx, R10, None, 0, 0);
        _e.Op(false, 0xFE, 0, R11, None, 0, RecordMissesAt);        // inc byte [r11 + Misses]
        _e.Op(true, 0xFF, 0, &_jit->FastMisses);                    // inc qword [FastMisses]
        EmitListing();
        _e.LoadFrom(Rax, &_jit->Saved0);
        _e.LoadFrom(Rcx, &_jit->Saved1);
        _e.Byte(0xC3);
        _e.PatchHere(roams);
        _e.Bytes([0x48, 0x8D, 0x64, 0x24, 0x08]);                   // lea rsp, [rsp + 8]
        _e.Jump(_common.ExitSaved);
        _e.PatchHere(crosses);
        _e.PatchHere(absent);
        _e.LoadFrom(Rax, &_jit->Saved0);
        _e.LoadFrom(Rcx, &_jit->Saved1);
        _e.Bytes([0x48, 0x8D, 0x64, 0x24, 0x08]);                   // lea rsp, [rsp + 8]
        _e.Op(false, 0xFF, 4, R11, None, 0, RecordTargetAt);        // jmp [r11 + Target]
        return start;
    }

    /// <summary>A slot for stores will lead to the host page in RAX. Changes R10.</summary>
    void EmitNoteStores()
    {
        _e.Move(R10, Rax);
        _e.Shift(true, Shr, R10, PageShift);
        _e.Bytes([0x45, 0x0F, 0xB7, 0xD2]);                         // movzx r10d, r10w
        _e.Op(false, 0xC6, 0, R10, None, 0, (int)_jit->StorePages); // mov byte [r10 + StorePages], 1
        _e.Byte(1);
    }

    /// <summary>The next instruction, or the rest of it, is in another page, whose linear address is in R10: goes on if
    /// that is the same host page as last time.</summary>
    uint EmitMissCross(bool moves, bool keepsFlags = false, bool isSegmented = false)
    {
        uint start = _e.Here;
        _e.StoreTo(&_jit->Saved0, Rax);
        _e.StoreTo(&_jit->Saved1, Rcx);
        EmitLookUp(R10, &_jit->FetchTlb, TlbSet.FetchSize);
        _e.Op(true, CompareLoad, R10, Rax, None, 0, ReadTagAt);
        uint absent = _e.JumpIf(NotEqual);
        _e.Op(true, Load, Rax, Rax, None, 0, HostAt);
        _e.Op(true, CompareLoad, Rax, R11, None, 0, RecordHostPageAt);
        uint other = _e.JumpIf(NotEqual);
        _e.Move(Rcx, R10);
        _e.Op(true, Load, Rax, R11, None, 0, RecordSlotAt);
        _e.Op(true, Store, Rcx, Rax, None, 0, 0);
        EmitListing();
        _e.LoadFrom(Rax, &_jit->Saved0);
        _e.LoadFrom(Rcx, &_jit->Saved1);
        if (isSegmented) _e.Op(false, SubLoad, R10, &_state->Cs.Base);
        if (moves) _e.StoreTo(&_jit->RipBase, R10);
        if (keepsFlags) _e.RestoreFlags(&_jit->Flags);
        _e.Op(false, 0xFF, 4, R11, None, 0, RecordTargetAt);        // jmp [r11 + Target]
        _e.PatchHere(absent);
        _e.PatchHere(other);
        _e.LoadFrom(Rax, &_jit->Saved0);
        _e.LoadFrom(Rcx, &_jit->Saved1);
        _e.Jump(_common.ExitSaved);
        return start;
    }

    /// <summary>RAX: the TLB entry for an address.</summary>
    void EmitLookUp(int linear, void** set, int size)
    {
        _e.Move(Rax, linear);
        _e.Shift(true, Shr, Rax, 7);
        _e.Arithmetic(false, And, Rax, (size - 1) * sizeof(TlbEntry));
        _e.Op(true, AddLoad, Rax, set);
    }

    /// <summary>The record in R11 goes on the list of filled ones for the page in RCX. Changes RAX.</summary>
    void EmitListing()
    {
        _e.Bytes([0x48, 0x85, 0xC9]);                               // test rcx, rcx
        uint upper = _e.JumpIf(Sign);
        EmitListing(1, (void**)&_jit->LowerAt);
        uint done = _e.Jump();
        _e.PatchHere(upper);
        EmitListing(2, (void**)&_jit->UpperAt);
        _e.PatchHere(done);
    }

    void EmitListing(byte list, void** end)
    {
        _e.Op(false, 0xF6, 0, R11, None, 0, RecordListedAt);        // test byte [r11 + Listed], list
        _e.Byte(list);
        uint listed = _e.JumpIf(NotEqual);
        _e.Op(false, 0x80, Or, R11, None, 0, RecordListedAt);
        _e.Byte(list);
        _e.LoadFrom(Rax, (ulong*)end);
        _e.Op(false, Store, R11, Rax, None, 0, 0);
        _e.Op(true, Lea, Rax, Rax, None, 0, sizeof(uint));
        _e.StoreTo((ulong*)end, Rax);
        _e.PatchHere(listed);
    }

    static readonly int RecordLimitAt = OffsetOf(r => (nint)(&r->Limit));
    static readonly int RecordTargetAt = OffsetOf(r => (nint)(&r->Target));
    static readonly int RecordHostPageAt = OffsetOf(r => (nint)(&r->HostPage));
    static readonly int RecordListedAt = OffsetOf(r => (nint)(&r->Listed));
    static readonly int RecordMissesAt = OffsetOf(r => (nint)(&r->Misses));
    static readonly int RecordSlotAt = OffsetOf(r => (nint)(&r->Slot));

    delegate nint Field(ExitRecord* record);

    static int OffsetOf(Field field)
    {
        ExitRecord record;
        return (int)(field(&record) - (nint)(&record));
    }

    /// <summary>The guest may use YMM registers, and so may this code. Of those who lack them no code has
    /// <see cref="JitState.Wide"/> set.</summary>
    bool HasAvx => (_cpu.Xcr0Supported & 4) != 0;

    byte* Xsave(int at) => (byte*)&_state->Xsave + at;

    /// <summary>XMM0 to XMM15, their upper halves if the guest uses them, MXCSR.</summary>
    /// <remarks>Upper halves that are all zero must be so in the host's eyes too: writing zeros would leave them in
    /// use, and each SSE instruction would have to keep them, which costs half the speed.</remarks>
    void EmitLoadVectors()
    {
        _e.Bytes([0x0F, 0xAE]);
        _e.ModRmAbsolute(2, Xsave(XsaveArea.Mxcsr), 0);             // ldmxcsr
        if (!HasAvx)
        {
            for (int i = 0; i < 16; i++) MoveXmm(0x10, i);
            _e.StoreByte(&_jit->VectorsLoaded, AvxLoaded);
            return;
        }
        _e.CompareByte(&_jit->Wide, 1);
        uint narrow = _e.JumpIf(Below), whole = _e.JumpIf(Above);
        Vex(0, 0, 1, 0, 1, 0x10, Xsave(XsaveArea.YmmHigh0), 0);     // vmovups ymm
        // vorps ymm
        for (int i = 2; i < 16; i += 2) Vex(0, 0, 1, 0, 1, 0x56, Xsave(XsaveArea.YmmHigh0 + i * 16), 0);
        _e.Bytes([0xC4, 0xE2, 0x7D, 0x17, 0xC0]);                   // vptest ymm0, ymm0
        uint wide = _e.JumpIf(NotEqual);
        _e.Bytes([0xC5, 0xF8, 0x77]);                               // vzeroupper
        _e.PatchHere(narrow);
        for (int i = 0; i < 16; i++) MoveXmm(0x10, i);
        uint done = _e.Jump();
        _e.PatchHere(wide);
        for (int i = 0; i < 16; i++)
        {
            Vex(i, 0, 1, 0, 0, 0x10, Xsave(XsaveArea.Xmm0 + i * 16), 0);                   // vmovups xmm
            // vinsertf128 ymm, ymm, m128, 1
            Vex(i, i, 3, 1, 1, 0x18, Xsave(XsaveArea.YmmHigh0 + i * 16), 1);
            _e.Byte(1);
        }
        _e.PatchHere(done);
        _e.StoreByte(&_jit->VectorsLoaded, AvxLoaded);
        done = _e.Jump();
        _e.PatchHere(whole);
        if (_cpu.HasAvx512) EmitLoadWhole();
        _e.PatchHere(done);
    }

    void EmitStoreVectors()
    {
        _e.Bytes([0x0F, 0xAE]);
        _e.ModRmAbsolute(3, Xsave(XsaveArea.Mxcsr), 0);             // stmxcsr
        _e.Bytes([0x0F, 0xAE]);
        _e.ModRmAbsolute(2, &_jit->HostMxcsr, 0);
        if (!HasAvx)
        {
            for (int i = 0; i < 16; i++) MoveXmm(0x11, i);
            return;
        }
        _e.CompareByte(&_jit->VectorsLoaded, AllLoaded);
        uint all = _e.JumpIf(Equal);
        _e.CompareByte(&_jit->Wide, 0);
        uint wide = _e.JumpIf(NotEqual);
        for (int i = 0; i < 16; i++) MoveXmm(0x11, i);
        uint done = _e.Jump();
        _e.PatchHere(all);
        if (_cpu.HasAvx512) EmitStoreAll();
        uint doneAll = _e.Jump();
        _e.PatchHere(wide);
        for (int i = 0; i < 16; i++)
        {
            Vex(i, 0, 1, 0, 0, 0x11, Xsave(XsaveArea.Xmm0 + i * 16), 0);                   // vmovups m128, xmm
            Vex(i, 0, 3, 1, 1, 0x19, Xsave(XsaveArea.YmmHigh0 + i * 16), 1);               // vextractf128 m128, ymm, 1
            _e.Byte(1);
        }
        _e.Bytes([0xC5, 0xF8, 0x77]);                               // vzeroupper
        _e.PatchHere(done);
        _e.PatchHere(doneAll);
    }

    /// <summary>movups.</summary>
    void MoveXmm(int opcode, int register)
    {
        if (register >= 8) _e.Byte(0x44);
        _e.Bytes([0x0F, (byte)opcode]);
        _e.ModRmAbsolute(register, Xsave(XsaveArea.Xmm0 + register * 16), 0);
    }

    void Vex(int register, int second, int map, int implied, int length, int opcode, void* address, int immediate)
    {
        _e.Byte(0xC4);
        _e.Byte((register < 8 ? 0x80 : 0) | 0x60 | map);
        _e.Byte((~second & 15) << 3 | length << 2 | implied);
        _e.Byte(opcode);
        _e.ModRmAbsolute(register, address, immediate);
    }

    /// <summary>FXSAVE64 or FXRSTOR64, as a C function: each processor has them, and not each has XSAVE.</summary>
    void EmitFxsave(bool restore)
    {
        _e.Bytes([0x48, 0x0F, 0xAE]);
        _e.ModRmAbsolute(restore ? 1 : 0, _jit->X87Area, 0);
        if (!restore) _e.Bytes([0xDB, 0xE3]);                       // fninit
        _e.Byte(0xC3);
    }
}
