using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Hw.Scsi;

/// <summary>Inquiry, mode and capacity data.</summary>
public sealed partial class ScsiDisk
{
    // Vital product data, SPC-4 section 7.8 and SBC-3 section 6.6
    const byte SupportedPages = 0x00, UnitSerialNumber = 0x80, DeviceIdentification = 0x83, BlockLimits = 0xB0,
        BlockCharacteristics = 0xB1, LogicalBlockProvisioning = 0xB2;

    // Mode pages, SPC-4 section 7.5 and SBC-3 section 6.5
    const byte ReadWriteRecovery = 0x01, Caching = 0x08, AllPages = 0x3F, WriteCacheEnable = 0x04;

    const int MostUnmapped = 255;                                  // ranges of one command: what parameters hold

    /// <summary>What the command that was begun last asks for.</summary>
    /// <param name="answer">Zeros, <see cref="MostData"/> of them.</param>
    /// <returns>Bytes of the answer, which may be more than the initiator has room for; -1: it failed.</returns>
    public int Answer(Span<byte> answer, out ScsiStatus status)
    {
        status = ScsiStatus.Good;
        int length = _cdb[0] switch
        {
            RequestSense => TakeSense(answer),
            Inquiry => AnswerInquiry(answer),
            ModeSense6 or ModeSense10 => AnswerModeSense(answer),
            ReadCapacity10 => AnswerCapacity10(answer),
            ServiceActionIn16 => AnswerServiceAction(answer),
            _ => AnswerReportLuns(answer),
        };
        if (length < 0) status = ScsiStatus.CheckCondition;
        return length;
    }

    int TakeSense(Span<byte> answer)
    {
        int length = _sense.WriteFixed(answer);
        _sense = ScsiSense.None;
        return length;
    }

    int Refuse(ScsiSense sense)
    {
        Fail(sense);
        return -1;
    }

    int AnswerInquiry(Span<byte> answer)
    {
        const byte removable = 0x80, spc3 = 5, responseFormat = 2, commandQueuing = 2;
        if ((_cdb[1] & 1) != 0) return AnswerVitalData(answer);
        if (_cdb[2] != 0) return Refuse(ScsiSense.InvalidField);
        const int length = 36;
        (answer[1], answer[2], answer[3]) = (_options.IsRemovable ? removable : (byte)0, spc3, responseFormat);
        (answer[4], answer[7]) = (length - 5, commandQueuing);
        Put(answer.Slice(8, 8), _options.Vendor);
        Put(answer.Slice(16, 16), _options.Product);
        Put(answer.Slice(32, 4), _options.Version);
        return length;
    }

    int AnswerVitalData(Span<byte> answer)
    {
        Span<byte> page = answer[4..];
        answer[1] = _cdb[2];
        int length;
        switch (_cdb[2])
        {
            case SupportedPages:
                ReadOnlySpan<byte> pages = [SupportedPages, UnitSerialNumber, DeviceIdentification, BlockLimits,
                    BlockCharacteristics, LogicalBlockProvisioning];
                pages.CopyTo(page);
                length = pages.Length;
                break;
            case UnitSerialNumber when _options.Serial.Length > 0:
                length = Encoding.ASCII.GetBytes(_options.Serial.AsSpan(0, Math.Min(36, _options.Serial.Length)), page);
                break;
            case DeviceIdentification:
                const byte ascii = 2;                              // T10's vendor specific form
                string name = _options.Serial.Length > 0 ? _options.Serial : Backend.Id;
                int count = Encoding.UTF8.GetBytes(name.AsSpan(0, Math.Min(36, name.Length)), page[4..]);
                (page[0], page[3]) = (ascii, (byte)count);
                length = 4 + count;
                break;
            case BlockLimits:
                const int mostBlocks = 4;
                BinaryPrimitives.WriteUInt32BigEndian(page[mostBlocks..], uint.MaxValue);
                BinaryPrimitives.WriteUInt32BigEndian(page[16..], uint.MaxValue);  // blocks of an UNMAP, and ranges
                BinaryPrimitives.WriteUInt32BigEndian(page[20..], MostUnmapped);
                length = 60;
                break;
            case BlockCharacteristics: length = 60; break;         // the rate of rotation is not told
            case LogicalBlockProvisioning:
                const byte unmap = 0x80, thin = 2;
                (page[1], page[2]) = (unmap, thin);
                length = 4;
                break;
            default: return Refuse(ScsiSense.InvalidField);
        }
        BinaryPrimitives.WriteUInt16BigEndian(answer[2..], (ushort)length);
        return 4 + length;
    }

    int AnswerModeSense(Span<byte> answer)
    {
        const byte writeProtected = 0x80, dpoFua = 0x10;
        bool isLong = _cdb[0] == ModeSense10, hasDescriptor = (_cdb[1] & 8) == 0 && Backend.HasMedium;
        byte page = (byte)(_cdb[2] & 0x3F);
        bool isChangeable = _cdb[2] >> 6 == 1;
        if (_cdb[2] >> 6 == 3) return Refuse(new ScsiSense(5, 0x3900));    // saved values
        if (page is not (ReadWriteRecovery or Caching or AllPages)) return Refuse(ScsiSense.InvalidField);
        int at = isLong ? 8 : 4;
        answer[isLong ? 3 : 2] = (byte)((Backend.IsReadOnly ? writeProtected : 0) | dpoFua);
        if (hasDescriptor)
        {
            answer[isLong ? 7 : 3] = 8;
            BinaryPrimitives.WriteUInt32BigEndian(answer[at..], (uint)Math.Min(Blocks, 0xFFFFFF));
            BinaryPrimitives.WriteUInt32BigEndian(answer[(at + 4)..], (uint)_options.BlockSize);
            at += 8;
        }
        if (page is ReadWriteRecovery or AllPages)
        {
            (answer[at], answer[at + 1]) = (ReadWriteRecovery, 10);
            at += 12;
        }
        if (page is Caching or AllPages)
        {
            (answer[at], answer[at + 1]) = (Caching, 18);
            if (isChangeable || Backend.WriteCache) answer[at + 2] = WriteCacheEnable;
            at += 20;
        }
        if (isLong) BinaryPrimitives.WriteUInt16BigEndian(answer, (ushort)(at - 2));
        else answer[0] = (byte)(at - 1);
        return at;
    }

    int AnswerCapacity10(Span<byte> answer)
    {
        BinaryPrimitives.WriteUInt32BigEndian(answer, (uint)Math.Min(Blocks - 1, uint.MaxValue));
        BinaryPrimitives.WriteUInt32BigEndian(answer[4..], (uint)_options.BlockSize);
        return 8;
    }

    /// <summary>READ CAPACITY (16), SBC-3 section 5.16; no other action is known.</summary>
    int AnswerServiceAction(Span<byte> answer)
    {
        const byte readCapacity = 0x10, provisioning = 0x80;
        if ((_cdb[1] & 0x1F) != readCapacity) return Refuse(ScsiSense.InvalidField);
        BinaryPrimitives.WriteUInt64BigEndian(answer, Blocks - 1);
        BinaryPrimitives.WriteUInt32BigEndian(answer[8..], (uint)_options.BlockSize);
        answer[13] = (byte)System.Numerics.BitOperations.Log2((uint)(_options.PhysicalBlockSize / _options.BlockSize));
        answer[14] = provisioning;
        return 32;
    }

    static int AnswerReportLuns(Span<byte> answer)
    {
        BinaryPrimitives.WriteUInt32BigEndian(answer, 8);          // bytes of the list: unit 0
        return 16;
    }

    static void Put(Span<byte> field, string text)
    {
        field.Fill((byte)' ');
        Encoding.ASCII.GetBytes(text.AsSpan(0, Math.Min(text.Length, field.Length)), field);
    }
}
