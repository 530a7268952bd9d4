using System.Security.Cryptography;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Luks;

/// <summary>Passphrases come and go: <c>qemu-img amend</c> of an encrypted volume. Spec: LUKS On-Disk Format
/// Specification 1.2.3, on adding and revoking passwords.</summary>
/// <param name="read">Bytes from the header's start.</param>
/// <param name="write">Likewise; they are on stable storage when it returns.</param>
sealed class LuksAmendment(LuksHeader header, byte[] key, Func<long, int, byte[]> read, Action<long, byte[]> write)
{
    const string LosesData = "which will erase all the data in the image irreversibly - refusing operation";

    static readonly string[] Names = ["state", "new-secret", "old-secret", "keyslot", "iter-time"];

    LuksSlot[] Slots => header.KeySlots;

    public static Property[] Options(string prefix) =>
    [
        Property.Text($"{prefix}state", help: "Select new state of affected keyslots (active/inactive)"),
        Property.Text($"{prefix}new-secret", help: "New secret to set in the matching keyslots. Empty string to erase"),
        Property.Text($"{prefix}old-secret", help: "Select all keyslots that match this password"),
        Property.Automatic($"{prefix}keyslot", help: "Select a single keyslot to modify explicitly")
            with { Default = null },
        LuksCreation.IterTime(prefix),
    ];

    public static bool IsGiven(Properties options, string prefix) =>
        Array.Exists(Names, name => options.Has(prefix + name));

    public void Run(Amendment amendment, string prefix)
    {
        Properties options = amendment.Options;
        int? slot = null;
        if (options.NumberOrAuto($"{prefix}keyslot") is { } number)
            slot = number < LuksHeader.Slots ? (int)number : throw Refused(
                $"Invalid keyslot {number} specified, must be between 0 and {LuksHeader.Slots - 1}");
        string? added = options.Text($"{prefix}new-secret"), old = options.Text($"{prefix}old-secret");
        switch (options.Text($"{prefix}state"))
        {
            case "active":
                if (added == null) throw Refused("'new-secret' is required to activate a keyslot");
                if (old != null) throw Refused("'old-secret' must not be given when activating keyslots");
                Activate(slot, LuksCreation.Passphrase(amendment.Secret, added),
                    LuksCreation.Milliseconds(options, prefix), amendment.IsForced);
                break;
            case "inactive":
                if (added != null) throw Refused("'new-secret' must not be given when erasing keyslots");
                if (options.Has($"{prefix}iter-time"))
                    throw Refused("'iter-time' must not be given when erasing keyslots");
                Erase(slot, old == null ? null : amendment.Secret(old), amendment.IsForced);
                break;
            case null: throw Refused("Parameter 'state' is missing");
            case string other: throw Refused($"Parameter 'state' does not accept value '{other}'");
        }
    }

    /// <summary>The slot becomes active when its key material is there.</summary>
    void Activate(int? chosen, byte[] passphrase, int milliseconds, bool isForced)
    {
        int slot = chosen ?? Array.FindIndex(Slots, s => !s.IsActive);
        if (slot < 0) throw Refused("Can't add a keyslot - all keyslots are in use");
        if (Slots[slot].IsActive && !isForced)
            throw Refused($"Refusing to overwrite active keyslot {slot} - please erase it first");
        CheckPlace(slot);
        (LuksSlot filled, byte[] material) = LuksKeys.Fill(header, Slots[slot].Offset, passphrase, key, milliseconds);
        if (Slots[slot].IsActive) Set(slot, LuksSlot.Empty(filled.Offset));
        write(filled.Offset, material);
        Set(slot, filled);
    }

    void Erase(int? chosen, byte[]? passphrase, bool isForced)
    {
        int active = Slots.Count(slot => slot.IsActive);
        if (chosen is { } one)
        {
            if (!Slots[one].IsActive && isForced) return;
            if (!Slots[one].IsActive) throw Refused($"Given keyslot {one} is already erased (inactive) ");
            if (passphrase != null && LuksKeys.Open(header, Slots[one], passphrase, read) == null)
                throw Refused($"Given keyslot {one} doesn't contain the given old password for erase operation");
            if (active == 1 && !isForced)
                throw Refused($"Attempt to erase the only active keyslot {one} {LosesData}");
            Erase(one);
            return;
        }
        if (passphrase == null)
            throw Refused("To erase keyslot(s), either explicit keyslot index or the password currently contained in "
                + "them must be given");
        int[] matching = [.. Enumerable.Range(0, Slots.Length).Where(i => Slots[i].IsActive
            && LuksKeys.Open(header, Slots[i], passphrase, read) != null)];
        if (matching.Length == 0) throw Refused("No keyslots match given (old) password for erase operation");
        if (matching.Length == active && !isForced)
            throw Refused("All the active keyslots match the (old) password that was given and erasing them will " +
                "erase all the data in the image irreversibly - refusing operation");
        foreach (int slot in matching) Erase(slot);
    }

    /// <summary>The key material goes first: with its slot still active it opens nothing.</summary>
    void Erase(int slot)
    {
        CheckPlace(slot);
        write(Slots[slot].Offset, RandomNumberGenerator.GetBytes(header.KeyBytes * LuksHeader.Stripes));
        Set(slot, LuksSlot.Empty(Slots[slot].Offset));
    }

    void Set(int slot, LuksSlot value)
    {
        Slots[slot] = value;
        write(0, header.ToBytes()[..LuksHeader.Size]);
    }

    /// <summary>An image may say of a slot that it lies where the header, another slot or data are.</summary>
    void CheckPlace(int slot)
    {
        long start = Slots[slot].Offset, length = header.KeyBytes * (long)LuksHeader.Stripes;
        bool isFree = start >= LuksHeader.Size && start + length <= header.PayloadOffset;
        for (int i = 0; i < Slots.Length; i++)
            isFree &= i == slot || start + length <= Slots[i].Offset || Slots[i].Offset + length <= start;
        if (!isFree) throw Refused($"keyslot {slot} lies over other data");
    }

    static BlockException Refused(string why) => new(why, Errno.Inval);
}
