using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Hw.Scsi;

/// <summary>What every unit says of itself.</summary>
public abstract partial class ScsiUnit
{
    // Vital product data, SPC-4 section 7.8 and SBC-3 section 6.6
    protected const byte SupportedPages = 0x00, UnitSerialNumber = 0x80, DeviceIdentification = 0x83;
    const int MostSerial = 36, MostSerialAsId = 20, MostId = 247;  // characters, as QEMU has it

    protected const byte AllPages = 0x3F, ChangeableValues = 1, SavedValues = 3;   // mode pages, SPC-4 section 7.5

    byte[] _answer = new byte[MostData];                           // not migrated: full only within a call

    /// <summary>SPC-4, table 138: 0 direct access, 5 CD.</summary>
    protected abstract byte DeviceType { get; }

    /// <summary>What the command that was begun last asks for.</summary>
    /// <returns>The answer, of which the initiator may have room for less.</returns>
    public ReadOnlySpan<byte> Answer(out ScsiStatus status)
    {
        Array.Clear(_answer);
        int length = _cdb[0] switch
        {
            ScsiOpcode.RequestSense => AnswerSense(_answer),
            ScsiOpcode.Inquiry => AnswerInquiry(_answer),
            ScsiOpcode.ModeSense6 or ScsiOpcode.ModeSense10 => AnswerModeSense(_answer),
            ScsiOpcode.ReportLuns => AnswerReportLuns(),
            _ => AnswerOwn(_answer),
        };
        status = length < 0 ? ScsiStatus.CheckCondition : ScsiStatus.Good;
        return _answer.AsSpan(0, Math.Max(length, 0));
    }

    /// <summary>Of a command that this kind of unit has beside what all have.</summary>
    protected abstract int AnswerOwn(Span<byte> answer);

    /// <summary>Writes mode pages from a place on; returns where they end, or -1 where there is no such page.</summary>
    /// <param name="isChangeable">Masks of what can be changed, and not values.</param>
    protected abstract int AddPages(Span<byte> answer, int at, byte page, bool isChangeable);

    /// <summary>The header's medium type and device-specific parameter.</summary>
    protected abstract (byte Medium, byte Parameter) ModeHeader { get; }

    protected virtual bool HasBlockDescriptor => true;

    /// <summary>Writes a page of vital product data; returns its length, or -1 where there is no such page.</summary>
    protected virtual int AddVitalData(byte code, Span<byte> page) => -1;

    /// <summary>Pages that <see cref="AddVitalData"/> has.</summary>
    protected virtual ReadOnlySpan<byte> VitalPages => [];

    protected virtual int AnswerInquiry(Span<byte> answer)
    {
        const byte absent = 0x7F, removable = 0x80, hierarchical = 0x10, responseFormat = 2, commandQueuing = 2,
            synchronous = 0x10, vital = 1;
        const int least = 36, most = 256;
        answer[0] = _isAbsent ? absent : DeviceType;
        if ((_cdb[1] & vital) != 0) return _isAbsent ? Refuse(ScsiSense.InvalidField) : AnswerVitalData(answer);
        if (_cdb[2] != 0) return Refuse(ScsiSense.InvalidField);
        int length = Math.Clamp((int)ScsiCdb.AllocationLength(_cdb), least, most);
        (answer[2], answer[3], answer[4]) = (Options.ScsiVersion, hierarchical | responseFormat, (byte)(length - 5));
        if (_isAbsent) return length;
        answer[1] = Options.IsRemovable ? removable : (byte)0;
        answer[7] = (byte)(synchronous | (Options.IsQueued ? commandQueuing : 0));
        Put(answer.Slice(8, 8), Options.Vendor);
        Put(answer.Slice(16, 16), Options.Product);
        Put(answer.Slice(32, 4), Options.Version);
        return length;
    }

    int AnswerVitalData(Span<byte> answer)
    {
        byte code = _cdb[2];
        Span<byte> page = answer[4..];
        int length = code switch
        {
            SupportedPages => AddSupportedPages(page),
            UnitSerialNumber when Options.Serial.Length > 0 =>
                Encoding.ASCII.GetBytes(Options.Serial.AsSpan(0, Math.Min(MostSerial, Options.Serial.Length)), page),
            DeviceIdentification => AddIdentification(page),
            _ => AddVitalData(code, page),
        };
        if (length < 0) return Refuse(ScsiSense.InvalidField);
        answer[1] = code;
        BinaryPrimitives.WriteUInt16BigEndian(answer[2..], (ushort)length);
        return 4 + length;
    }

    int AddSupportedPages(Span<byte> page)
    {
        int length = 0;
        page[length++] = SupportedPages;
        if (Options.Serial.Length > 0) page[length++] = UnitSerialNumber;
        page[length++] = DeviceIdentification;
        VitalPages.CopyTo(page[length..]);
        return length + VitalPages.Length;
    }

    /// <summary>Section 7.8.6: designators.</summary>
    int AddIdentification(Span<byte> page)
    {
        const byte ascii = 2, binary = 1, naa = 3, relativePort = 4, ofPort = 0x10, sas = 0x60, isSas = 0x80;
        int at = 0;
        Span<byte> text = stackalloc byte[MostId];
        if (Encoding.UTF8.TryGetBytes(Identifier, text, out int count) && count > 0)
            Add(page, ascii, 0, text[..count]);
        Span<byte> number = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(number, Options.Wwn);
        if (Options.Wwn != 0) Add(page, binary, naa, number);
        BinaryPrimitives.WriteUInt64BigEndian(number, Options.PortWwn);
        if (Options.PortWwn != 0) Add(page, sas | binary, isSas | ofPort | naa, number);
        BinaryPrimitives.WriteUInt32BigEndian(number, Options.PortIndex);
        if (Options.PortIndex != 0) Add(page, sas | binary, isSas | ofPort | relativePort, number[..4]);
        return at;

        void Add(Span<byte> page, byte codes, byte type, ReadOnlySpan<byte> designator)
        {
            (page[at], page[at + 1], page[at + 3]) = (codes, type, (byte)designator.Length);
            designator.CopyTo(page[(at + 4)..]);
            at += 4 + designator.Length;
        }
    }

    string Identifier
    {
        get
        {
            if (Options.DeviceId.Length > 0) return Options.DeviceId;
            return Options.Serial.Length > 0 ? Options.Serial[..Math.Min(MostSerialAsId, Options.Serial.Length)]
                : Backend.Id;
        }
    }

    int AnswerSense(Span<byte> answer)
    {
        const byte descriptors = 1;
        ScsiSense sense = _isAbsent ? ScsiSense.NoSuchUnit : TakeSense();
        if (sense.IsNone && !_attention.IsNone)
        {
            sense = _attention;
            Attend(ScsiSense.None);
        }
        return (_cdb[1] & descriptors) != 0 ? sense.WriteDescriptor(answer) : sense.WriteFixed(answer);
    }

    int AnswerModeSense(Span<byte> answer)
    {
        const byte noDescriptor = 8, descriptorLength = 8;
        bool isLong = _cdb[0] == ScsiOpcode.ModeSense10;
        bool hasDescriptor = HasBlockDescriptor && (_cdb[1] & noDescriptor) == 0 && HasMedium;
        int control = _cdb[2] >> 6, at = isLong ? 8 : 4;
        if (control == SavedValues) return Refuse(ScsiSense.SavingNotSupported);
        (byte medium, byte parameter) = ModeHeader;
        if (isLong) (answer[2], answer[3]) = (medium, parameter);
        else (answer[1], answer[2]) = (medium, parameter);
        if (hasDescriptor)
        {
            answer[isLong ? 7 : 3] = descriptorLength;
            if (Blocks <= 0xFFFFFF) BinaryPrimitives.WriteUInt32BigEndian(answer[at..], (uint)Blocks);
            BinaryPrimitives.WriteUInt32BigEndian(answer[(at + 4)..], (uint)Options.BlockSize);
            at += descriptorLength;
        }
        at = AddPages(answer, at, (byte)(_cdb[2] & AllPages), control == ChangeableValues);
        if (at < 0) return Refuse(ScsiSense.InvalidField);
        if (isLong) BinaryPrimitives.WriteUInt16BigEndian(answer, (ushort)(at - 2));
        else answer[0] = (byte)(at - 1);
        return at;
    }

    /// <summary>SPC-4, section 6.33: all units of the target, or the well known ones, which are none.</summary>
    int AnswerReportLuns()
    {
        const byte wellKnown = 1, all = 2;
        if (_cdb[2] > all || ScsiCdb.AllocationLength(_cdb) < 16) return Refuse(ScsiSense.InvalidField);
        IReadOnlyList<int> units = _cdb[2] == wellKnown ? [] : Units?.Invoke() ?? [0];
        int length = 8 + 8 * units.Count;
        if (length > _answer.Length) _answer = new byte[length];
        BinaryPrimitives.WriteInt32BigEndian(_answer, length - 8);
        for (int i = 0; i < units.Count; i++) ScsiLun.Write(_answer.AsSpan(8 + 8 * i), units[i]);
        return length;
    }

    protected int Refuse(ScsiSense sense)
    {
        Fail(sense);
        return -1;
    }

    protected static void Put(Span<byte> field, string text)
    {
        field.Fill((byte)' ');
        Encoding.ASCII.GetBytes(text.AsSpan(0, Math.Min(text.Length, field.Length)), field);
    }
}

/// <summary>What names a unit. SAM-5, section 4.7: one level, peripheral or flat.</summary>
static class ScsiLun
{
    const byte Flat = 0x40;

    /// <param name="field">Zeros.</param>
    public static void Write(Span<byte> field, int unit)
    {
        (field[0], field[1]) = ((byte)(unit < 256 ? 0 : Flat | unit >> 8), (byte)unit);
    }
}
