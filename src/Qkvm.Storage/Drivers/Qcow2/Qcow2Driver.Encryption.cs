using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Storage.Drivers.Luks;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>An image whose data are encrypted has a LUKS header in clusters of its own. Spec: QEMU
/// docs/interop/qcow2.txt, "Full disk encryption header pointer".</summary>
public sealed partial class Qcow2Driver
{
    const int MaxCryptoHeader = 16 << 20;

    LuksHeader? _encryption;
    byte[]? _masterKey;                                            // null where nobody reads
    (long Offset, long Length) _crypto;

    /// <param name="secret">Gives the passphrase; null, or a null of its, where nobody is going to read.</param>
    void OpenEncryption(Func<byte[]?>? secret)
    {
        if (!_store.IsEncrypted) return;
        if (Info.Extensions.CryptoHeader is not { } place || place.Offset <= 0 || place.Length is < LuksHeader.Size
            or > MaxCryptoHeader || place.Offset % _layout.ClusterSize != 0)
            throw new ConfigurationException($"Could not open '{Info.Name}': Missing CRYPTO header for crypt method 2");
        _crypto = place;
        if (!IsReadOnly) _store.Map.AddRegion(place.Offset, place.Length);
        _encryption = LuksHeader.ReadFrom(ReadCrypto(0, LuksHeader.Size), out string wrong)
            ?? throw new ConfigurationException($"Could not open '{Info.Name}': {wrong}");
        if (secret?.Invoke() is not { } passphrase) return;
        _masterKey = LuksKeys.Unlock(_encryption, passphrase, ReadCrypto) ?? throw new ConfigurationException(
            $"Could not open '{Info.Name}': Invalid password, cannot unlock any keyslot");
        _store.Cipher = new XtsAes(_masterKey);
    }

    byte[] ReadCrypto(long at, int length)
    {
        CheckCrypto(at, length);
        var data = new byte[length];
        _store.Read(_crypto.Offset + at, data);
        return data;
    }

    void WriteCrypto(long at, byte[] data)
    {
        CheckCrypto(at, data.Length);
        _store.Write(_crypto.Offset + at, data);
        _store.FlushFile();
    }

    void CheckCrypto(long at, int length)
    {
        if (at > _crypto.Length - length)
            throw new BlockException("a key slot lies outside the LUKS header", Errno.Io);
    }

    /// <summary>encrypt.format=, encrypt.key-secret=.</summary>
    static byte[]? Secret(Properties properties, NodeParts parts)
    {
        Options? encrypt = properties.Tree("encrypt");
        string? format = encrypt?.Text("format"), secret = encrypt?.Text("key-secret");
        encrypt?.Close();
        if (format is not (null or "luks"))
            throw properties.Error($"Parameter 'encrypt.format' does not accept value '{format}'; there is luks");
        if (secret != null) return parts.Secret(secret);
        return parts.Around.IsUnread ? null : throw new ConfigurationException($"Could not open "
            + $"'{BlockFactory.NameOf(parts.File)}': Parameter 'encrypt.key-secret' is required for cipher");
    }
}
