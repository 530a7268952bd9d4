using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;

namespace Qkvm.Storage.Drivers.Luks;

/// <summary>A place for the master key, encrypted by a passphrase.</summary>
/// <param name="Offset">Bytes from the header's start, of the key material.</param>
sealed record LuksSlot(bool IsActive, uint Iterations, byte[] Salt, long Offset)
{
    public static LuksSlot Empty(long offset) => new(false, 0, new byte[LuksHeader.SaltSize], offset);
}

/// <summary>The header of an encrypted volume, version 1. Spec: LUKS On-Disk Format Specification 1.2.3, "PHDR
/// layout".</summary>
sealed class LuksHeader
{
    public const int Size = 592, Slots = 8, SaltSize = 32, DigestSize = 20, Stripes = 4000, SlotAlignment = 4096;

    const int VersionAt = 6, CipherAt = 8, ModeAt = 40, HashAt = 72, PayloadAt = 104, KeyBytesAt = 108, DigestAt = 112,
        DigestSaltAt = 132, DigestIterationsAt = 164, UuidAt = 168, UuidSize = 40, SlotsAt = 208, SlotSize = 48,
        NameSize = 32, SectorSize = 512;
    const uint Active = 0x00AC_71F3, Inactive = 0x0000_DEAD;
    const uint MaxIterations = 1 << 25;                            // half a minute

    static ReadOnlySpan<byte> Magic => [0x4C, 0x55, 0x4B, 0x53, 0xBA, 0xBE]; // "LUKS" BAh BEh

    public string Hash { get; init; } = "sha256";
    public int KeyBytes { get; init; } = 64;
    public long PayloadOffset { get; init; }
    public byte[] Digest { get; init; } = [];
    public byte[] DigestSalt { get; init; } = [];
    public uint DigestIterations { get; init; }
    public string Uuid { get; init; } = "";
    public LuksSlot[] KeySlots { get; init; } = [];

    public HashAlgorithmName HashName => Hash switch
    {
        "sha1" => HashAlgorithmName.SHA1, "sha512" => HashAlgorithmName.SHA512, _ => HashAlgorithmName.SHA256,
    };

    /// <summary>Bytes that the header and the places of all keys take.</summary>
    public static long TotalSize(int keyBytes) => SlotAlignment + Slots * SlotBytes(keyBytes);

    static long SlotBytes(int keyBytes) =>
        (keyBytes * (long)Stripes + SlotAlignment - 1) / SlotAlignment * SlotAlignment;

    public static long SlotOffset(int index, int keyBytes) => SlotAlignment + index * SlotBytes(keyBytes);

    /// <summary>Null and what is wrong, where it is none that we can open.</summary>
    public static LuksHeader? ReadFrom(byte[] data, out string wrong)
    {
        uint U32(int at) => BinaryPrimitives.ReadUInt32BigEndian(data.AsSpan(at));
        string Text(int at, int size) => Encoding.ASCII.GetString(data.AsSpan(at, size)).Split('\0')[0];
        string cipher = Text(CipherAt, NameSize), mode = Text(ModeAt, NameSize);
        var slots = new LuksSlot[Slots];
        bool isSound = true;
        for (int i = 0; i < Slots; i++)
        {
            int at = SlotsAt + i * SlotSize;
            slots[i] = new LuksSlot(U32(at) == Active, U32(at + 4), data[(at + 8)..(at + 8 + SaltSize)],
                U32(at + 40) * (long)SectorSize);
            isSound &= !slots[i].IsActive || (U32(at + 44) == Stripes && slots[i].Iterations is > 0 and <= MaxIterations
                && slots[i].Offset >= Size && slots[i].Offset < 1L << 32);
        }
        var header = new LuksHeader
        {
            Hash = Text(HashAt, NameSize), KeyBytes = (int)Math.Min(U32(KeyBytesAt), int.MaxValue),
            PayloadOffset = U32(PayloadAt) * (long)SectorSize, Digest = data[DigestAt..(DigestAt + DigestSize)],
            DigestSalt = data[DigestSaltAt..(DigestSaltAt + SaltSize)], DigestIterations = U32(DigestIterationsAt),
            Uuid = Text(UuidAt, UuidSize), KeySlots = slots,
        };
        ushort version = BinaryPrimitives.ReadUInt16BigEndian(data.AsSpan(VersionAt));
        wrong = !data.AsSpan().StartsWith(Magic) ? "Volume is not in LUKS format"
            : version != 1 ? $"LUKS version {version} is not supported"
            : cipher != "aes" ? $"cipher '{cipher}' is not supported; aes is"
            : mode != "xts-plain64" ? $"cipher mode '{mode}' is not supported; xts-plain64 is"
            : header.Hash is not ("sha1" or "sha256" or "sha512") ? $"hash '{header.Hash}' is not supported"
            : header.KeyBytes is not (32 or 64) ? $"a key of {header.KeyBytes} bytes is not supported"
            : header.DigestIterations is 0 or > MaxIterations || !isSound ? "its key slots are impossible" : "";
        return wrong == "" ? header : null;
    }

    public byte[] ToBytes()
    {
        var data = new byte[SlotAlignment];
        void Put(int at, uint value) => BinaryPrimitives.WriteUInt32BigEndian(data.AsSpan(at), value);
        Magic.CopyTo(data);
        BinaryPrimitives.WriteUInt16BigEndian(data.AsSpan(VersionAt), 1);
        Encoding.ASCII.GetBytes("aes", data.AsSpan(CipherAt));
        Encoding.ASCII.GetBytes("xts-plain64", data.AsSpan(ModeAt));
        Encoding.ASCII.GetBytes(Hash, data.AsSpan(HashAt));
        Put(PayloadAt, (uint)(PayloadOffset / SectorSize));
        Put(KeyBytesAt, (uint)KeyBytes);
        Digest.CopyTo(data, DigestAt);
        DigestSalt.CopyTo(data, DigestSaltAt);
        Put(DigestIterationsAt, DigestIterations);
        Encoding.ASCII.GetBytes(Uuid, data.AsSpan(UuidAt));
        for (int i = 0; i < Slots; i++)
        {
            int at = SlotsAt + i * SlotSize;
            Put(at, KeySlots[i].IsActive ? Active : Inactive);
            Put(at + 4, KeySlots[i].Iterations);
            KeySlots[i].Salt.CopyTo(data, at + 8);
            Put(at + 40, (uint)(KeySlots[i].Offset / SectorSize));
            Put(at + 44, Stripes);
        }
        return data;
    }

    /// <summary>By QMP's names.</summary>
    public JsonObject Describe(bool isInside)
    {
        var facts = new JsonObject
        {
            ["ivgen-alg"] = "plain64", ["hash-alg"] = Hash, ["cipher-alg"] = KeyBytes == 64 ? "aes-256" : "aes-128",
            ["uuid"] = Uuid,
        };
        if (isInside) facts["format"] = "luks";
        facts["cipher-mode"] = "xts";
        facts["slots"] = new JsonArray([.. KeySlots.Select(slot => slot.IsActive
            ? new JsonObject { ["active"] = true, ["iters"] = slot.Iterations, ["key-offset"] = slot.Offset,
                ["stripes"] = Stripes }
            : new JsonObject { ["active"] = false, ["key-offset"] = slot.Offset })]);
        facts["payload-offset"] = PayloadOffset;
        facts["master-key-iters"] = DigestIterations;
        return facts;
    }
}
