using System.Runtime.Intrinsics.X86;
using Qkvm.Accel.Tcg;
using Qkvm.Accel.Tcg.Thunks;
using Qkvm.Host;
using Qkvm.Testing;

namespace Qkvm.Accel.Tests;

/// <summary>A test that needs AVX-512 of this processor.</summary>
public sealed class Avx512FactAttribute()
    : ConditionalFactAttribute(HostOracle.HasAvx512 ? null : "needs a processor with AVX-512, and a kernel that " +
    "enables it");

// Vector state between the guest's layout, which is Intel's, and this processor's own.
sealed unsafe partial class HostOracle
{
    const ulong Avx512 = 0xE0;

    /// <summary>Without it, FXSAVE takes its place.</summary>
    public static bool HasXsave { get; } = (X86Base.CpuId(1, 0).Ecx & 1 << 27) != 0;

    /// <summary>x87, SSE and, where there are those, AVX and AVX-512.</summary>
    static ulong Saved { get; } = HasAvx512 ? 7 | Avx512 : Avx.IsSupported ? 7u : 3u;

    public static bool HasAvx512 => HostFeatures.Current.Has("avx512f");

    /// <summary>Components, their sizes, their places in the guest's layout and in this processor's.</summary>
    static readonly (int Bit, int Size, int Mine, int Host)[] s_places =
    [
        (2, 256, XsaveArea.YmmHigh0, HostPlace(2)), (5, 64, XsaveArea.Opmask0, HostPlace(5)),
            (6, 512, XsaveArea.ZmmHigh0, HostPlace(6)),
        (7, 1024, XsaveArea.Zmm16, HostPlace(7)),
    ];

    static int HostPlace(int component) => X86Base.CpuId(0xD, component).Ebx;

    /// <summary>From an image in the guest's layout.</summary>
    public void LoadVectors(byte* image)
    {
        byte* to = State->Xsave;
        new Span<byte>(to, XsaveSize).Clear();
        Buffer.MemoryCopy(image, to, LegacySize, LegacySize);
        *(ulong*)(to + XsaveArea.Header) = Saved;
        foreach ((int bit, int size, int mine, int host) in s_places)
            if ((Saved >> bit & 1) != 0) Buffer.MemoryCopy(image + mine, to + host, size, size);
    }

    /// <summary>To the guest's layout; what XSAVE left out, because it is in its initial state, is filled in.</summary>
    public void UnloadVectors(byte* image)
    {
        byte* from = State->Xsave;
        ulong present = HasXsave ? *(ulong*)(from + XsaveArea.Header) : Saved;
        new Span<byte>(image, sizeof(XsaveArea)).Clear();
        Buffer.MemoryCopy(from, image, LegacySize, LegacySize);
        if ((present & 1) == 0)
        {
            new Span<byte>(image, XsaveArea.Mxcsr).Clear();
            new Span<byte>(image + XsaveArea.St0, 128).Clear();
            *(ushort*)image = 0x37F;
        }
        if ((present & 2) == 0) new Span<byte>(image + XsaveArea.Xmm0, 256).Clear();
        foreach ((int bit, int size, int mine, int host) in s_places)
            if ((present >> bit & 1) != 0) Buffer.MemoryCopy(from + host, image + mine, size, size);
    }

    const int LegacySize = 512, XsaveSize = 0xC00;
}
