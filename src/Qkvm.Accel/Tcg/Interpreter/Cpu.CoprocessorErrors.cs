using Qkvm.Core.Accel;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>x87 errors in the PC's way, with CR0.NE clear. Intel SDM vol. 1, section 8.7 and appendix D.</summary>
/// <remarks>As on the P6: FERR# is active from the waiting instruction behind the error on. Deviation: FXRSTOR and
/// XRSTOR of a state without the error end it at the next waiting instruction only.</remarks>
public sealed unsafe partial class Cpu
{
    /// <summary>No vector: the instruction waits for an interrupt and is executed then.</summary>
    const int FrozenByError = 0x100;

    public ICoprocessorErrors? CoprocessorErrors { get; set; }

    /// <summary>FERR#.</summary>
    bool _tellsError;

    /// <summary>Halted before a waiting instruction.</summary>
    bool _isFrozen;                                                // not migrated: it is found out anew

    void TellError()
    {
        if (CoprocessorErrors is not { } errors) return;
        if (!_tellsError)
        {
            _tellsError = true;
            errors.SetError(true);
        }
        if (!errors.IsIgnored) throw Fault(FrozenByError);
    }

    void EndError()
    {
        if (_tellsError) CoprocessorErrors?.SetError(false);
        _tellsError = false;
    }

    /// <summary>RIP stays; any interrupt goes on with it.</summary>
    void Freeze()
    {
        State->Halted = 1;
        _isFrozen = true;
        ModeChanged();
    }
}
