using System.Buffers.Binary;

namespace Qkvm.Hw.Scsi;

/// <summary>Commands that bring parameters.</summary>
public sealed partial class ScsiDisk
{
    /// <summary>Carries out the command that was begun last, with the parameters that came.</summary>
    /// <param name="ranges">Receives what the medium is to forget, in bytes; empty before.</param>
    public ScsiStatus Obey(ReadOnlySpan<byte> parameters, List<(long Offset, long Length)> ranges) =>
        (_cdb[0] == Unmap ? ObeyUnmap(parameters, ranges) : ObeyModeSelect(parameters)).Status;

    /// <summary>SBC-3, section 5.28: nothing is forgotten where any range is wrong.</summary>
    ScsiCommand ObeyUnmap(ReadOnlySpan<byte> parameters, List<(long Offset, long Length)> ranges)
    {
        const int header = 8, descriptor = 16;
        if (!Backend.HasMedium) return Fail(ScsiSense.NoMedium);
        if (Backend.IsReadOnly) return Fail(ScsiSense.WriteProtected);
        if (parameters.Length < header) return Fail(ScsiSense.ParameterLength);
        int length = BinaryPrimitives.ReadUInt16BigEndian(parameters[2..]);
        if (length > parameters.Length - header || length % descriptor != 0) return Fail(ScsiSense.InvalidParameter);
        for (int at = header; at < header + length; at += descriptor)
        {
            ulong block = BinaryPrimitives.ReadUInt64BigEndian(parameters[at..]),
                count = BinaryPrimitives.ReadUInt32BigEndian(parameters[(at + 8)..]);
            if (block > Blocks || count > Blocks - block)
            {
                ranges.Clear();
                return Fail(ScsiSense.OutOfRange);
            }
            if (count > 0) ranges.Add(((long)block * _options.BlockSize, (long)count * _options.BlockSize));
        }
        return Good;
    }

    /// <summary>SPC-4, section 6.14: the write cache can be switched; other pages stay as they are.</summary>
    ScsiCommand ObeyModeSelect(ReadOnlySpan<byte> parameters)
    {
        const byte pageFormat = 0x10, savePages = 1;
        bool isLong = _cdb[0] == ModeSelect10;
        if ((_cdb[1] & pageFormat) == 0 || (_cdb[1] & savePages) != 0) return Fail(ScsiSense.InvalidField);
        int header = isLong ? 8 : 4;
        if (parameters.Length < header) return Fail(ScsiSense.ParameterLength);
        int at = header + (isLong ? BinaryPrimitives.ReadUInt16BigEndian(parameters[6..]) : parameters[3]);
        bool? cache = null;
        while (at + 2 <= parameters.Length)
        {
            int length = parameters[at + 1] + 2;
            if (length > parameters.Length - at) return Fail(ScsiSense.ParameterLength);
            byte page = (byte)(parameters[at] & 0x3F);
            if (page is not (ReadWriteRecovery or Caching)) return Fail(ScsiSense.InvalidParameter);
            if (page == Caching && length > 2) cache = (parameters[at + 2] & WriteCacheEnable) != 0;
            at += length;
        }
        if (cache is { } isOn) Backend.WriteCache = isOn;
        return Good;
    }
}
