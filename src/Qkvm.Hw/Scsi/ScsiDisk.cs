using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.State;
using Qkvm.Hw.Storage;

namespace Qkvm.Hw.Scsi;

/// <summary>A direct access block device. Spec: SBC-3; names are its.</summary>
/// <remarks>Deviations: no comparing of data (BYTCHK, COMPARE AND WRITE), persistent reservations or protection
/// information; a reservation keeps nobody out, as there is one initiator; formatting changes nothing.</remarks>
public sealed partial class ScsiDisk(BlockBackend backend, ScsiOptions options) : ScsiUnit(backend, options)
{
    protected override byte DeviceType => 0;

    protected override ScsiAction MovedBy(byte opcode) => opcode switch
    {
        ScsiOpcode.Read6 or ScsiOpcode.Read10 or ScsiOpcode.Read12 or ScsiOpcode.Read16 => ScsiAction.Read,
        ScsiOpcode.Write6 or ScsiOpcode.Write10 or ScsiOpcode.Write12 or ScsiOpcode.Write16
            or ScsiOpcode.WriteAndVerify10 or ScsiOpcode.WriteAndVerify12 or ScsiOpcode.WriteAndVerify16 =>
            ScsiAction.Write,
        ScsiOpcode.SynchronizeCache10 or ScsiOpcode.SynchronizeCache16 => ScsiAction.Flush,
        _ => ScsiAction.None,
    };

    protected override ScsiCommand BeginOwn(byte opcode)
    {
        const byte byteCheck = 6, anchor = 1, thirdParty = 1, thirdPartyOrLong = 3;
        switch (opcode)
        {
            case ScsiOpcode.ReadCapacity10:
                if (!HasMedium) return Fail(ScsiSense.NoMedium);
                bool isPartial = (Cdb[8] & 1) != 0;                // SBC-2: the address counts then alone
                return !isPartial && ScsiCdb.Range(Cdb).Block != 0 ? Fail(ScsiSense.InvalidField)
                    : Answers() with { Length = 8 };
            case ScsiOpcode.ServiceActionIn16: return AnswersWithMedium();
            case ScsiOpcode.ModeSelect6 or ScsiOpcode.ModeSelect10 or ScsiOpcode.Unmap:
                if (opcode == ScsiOpcode.Unmap && (Cdb[1] & anchor) != 0) return Fail(ScsiSense.InvalidField);
                uint parameters = ScsiCdb.AllocationLength(Cdb);
                if (parameters > MostData) return Fail(ScsiSense.ParameterLength);
                return parameters == 0 ? Good : new(ScsiAction.Parameters, ScsiStatus.Good, parameters);
            case ScsiOpcode.WriteSame10 or ScsiOpcode.WriteSame16: return BeginWriteSame();
            case ScsiOpcode.SynchronizeCache10 or ScsiOpcode.SynchronizeCache16:
                return new(HasMedium ? ScsiAction.Flush : ScsiAction.None, ScsiStatus.Good);
            case ScsiOpcode.Verify10 or ScsiOpcode.Verify12 or ScsiOpcode.Verify16:
                return (Cdb[1] & byteCheck) != 0 ? Fail(ScsiSense.InvalidField)
                    : Move(ScsiAction.Verify) with { Length = 0 };
            case ScsiOpcode.Reserve6 or ScsiOpcode.Release6:       // SPC-2, section 7.21
                return (Cdb[1] & thirdParty) != 0 ? Fail(ScsiSense.InvalidField) : Good;
            case ScsiOpcode.Reserve10 or ScsiOpcode.Release10:
                return (Cdb[1] & thirdPartyOrLong) != 0 ? Fail(ScsiSense.InvalidField) : Good;
            case ScsiOpcode.Seek10:
                return !HasMedium ? Fail(ScsiSense.NoMedium)
                    : ScsiCdb.Range(Cdb).Block >= Blocks ? Fail(ScsiSense.OutOfRange) : Good;
            case ScsiOpcode.FormatUnit: return BeginFormat();
            default:
                ScsiAction action = MovedBy(opcode);
                return action == ScsiAction.None ? Fail(ScsiSense.InvalidOpcode) : Move(action);
        }
    }

    protected override void ExchangeUnit(StateStream state)
    {
        bool cache = Backend.WriteCache;
        state.Field("write-cache", ref cache);
        Backend.WriteCache = cache;
    }

    // Commands with parameters

    public override ScsiStatus Obey(ReadOnlySpan<byte> parameters, MediumWork work) => (Cdb[0] switch
    {
        ScsiOpcode.Unmap => ObeyUnmap(parameters, work),
        ScsiOpcode.WriteSame10 or ScsiOpcode.WriteSame16 => ObeyWriteSame(parameters, work),
        ScsiOpcode.FormatUnit => Good,
        _ => ObeyModeSelect(parameters),
    }).Status;

    /// <summary>SBC-3, section 5.2: the header of the parameters is enough.</summary>
    ScsiCommand BeginFormat()
    {
        const byte hasParameters = 0x10, isLong = 0x20;
        if (!HasMedium) return Fail(ScsiSense.NoMedium);
        if (Backend.IsReadOnly) return Fail(ScsiSense.WriteProtected);
        return (Cdb[1] & hasParameters) == 0 ? Good
            : new(ScsiAction.Parameters, ScsiStatus.Good, (Cdb[1] & isLong) != 0 ? 8 : 4);
    }

    /// <summary>SBC-3, section 5.28: nothing is forgotten where any range is wrong.</summary>
    ScsiCommand ObeyUnmap(ReadOnlySpan<byte> parameters, MediumWork work)
    {
        const int header = 8, descriptor = 16;
        if (!HasMedium) return Fail(ScsiSense.NoMedium);
        if (Backend.IsReadOnly) return Fail(ScsiSense.WriteProtected);
        if (parameters.Length < header) return Fail(ScsiSense.ParameterLength);
        int length = BinaryPrimitives.ReadUInt16BigEndian(parameters[2..]);
        if (length > parameters.Length - header || length % descriptor != 0) return Fail(ScsiSense.ParameterLength);
        work.Discard();
        for (int at = header; at < header + length; at += descriptor)
        {
            ulong block = BinaryPrimitives.ReadUInt64BigEndian(parameters[at..]),
                count = BinaryPrimitives.ReadUInt32BigEndian(parameters[(at + 8)..]);
            if (block > Blocks || count > Blocks - block)
            {
                work.Clear();
                return Fail(ScsiSense.OutOfRange);
            }
            work.Add((long)block * Options.BlockSize, (long)count * Options.BlockSize);
        }
        return Good;
    }

    /// <summary>SBC-3, section 5.43: one block of data, many times.</summary>
    ScsiCommand BeginWriteSame()
    {
        const byte anchor = 0x10, physicalData = 4, logicalData = 2, noData = 1;
        if (!HasMedium) return Fail(ScsiSense.NoMedium);
        if (Backend.IsReadOnly) return Fail(ScsiSense.WriteProtected);
        if ((Cdb[1] & (anchor | physicalData | logicalData | noData)) != 0) return Fail(ScsiSense.InvalidField);
        (ulong block, ulong count) = ScsiCdb.Range(Cdb);
        if (count == 0) return Fail(ScsiSense.InvalidField);       // WSNZ of the block limits page
        if (block > Blocks || count > Blocks - block) return Fail(ScsiSense.OutOfRange);
        return new(ScsiAction.Parameters, ScsiStatus.Good, Options.BlockSize);
    }

    ScsiCommand ObeyWriteSame(ReadOnlySpan<byte> data, MediumWork work)
    {
        const byte unmap = 8;
        (ulong block, ulong count) = ScsiCdb.Range(Cdb);
        if (data.Length < Options.BlockSize) return Fail(ScsiSense.ParameterLength);
        if (!HasMedium || block > Blocks || count > Blocks - block) return Fail(ScsiSense.NoMedium);
        work.Fill(data[..Options.BlockSize], mayUnmap: (Cdb[1] & unmap) != 0);
        work.Add((long)block * Options.BlockSize, (long)count * Options.BlockSize);
        return Good;
    }

    /// <summary>SPC-4, section 6.14: the write cache can be switched; all else has to be said as it is.</summary>
    ScsiCommand ObeyModeSelect(ReadOnlySpan<byte> parameters)
    {
        const byte pageFormat = 0x10, savePages = 1;
        bool isLong = Cdb[0] == ScsiOpcode.ModeSelect10;
        if ((Cdb[1] & pageFormat) == 0 || (Cdb[1] & savePages) != 0) return Fail(ScsiSense.InvalidField);
        int header = isLong ? 8 : 4;
        if (parameters.Length < header) return Fail(ScsiSense.ParameterLength);
        int at = header + (isLong ? BinaryPrimitives.ReadUInt16BigEndian(parameters[6..]) : parameters[3]);
        bool? cache = null;
        while (at + 2 <= parameters.Length)
        {
            int length = parameters[at + 1] + 2;
            if (length > parameters.Length - at) return Fail(ScsiSense.ParameterLength);
            const byte subpage = 0x40;
            byte page = (byte)(parameters[at] & (AllPages | subpage));
            if (!IsWritable(page, parameters.Slice(at, length))) return Fail(ScsiSense.InvalidParameter);
            if (page == Caching) cache = (parameters[at + 2] & WriteCacheEnable) != 0;
            at += length;
        }
        if (cache is { } isOn) Backend.WriteCache = isOn;
        return Good;
    }

    /// <summary>Whether a page differs from the current one in nothing but what can be changed.</summary>
    bool IsWritable(byte page, ReadOnlySpan<byte> values)
    {
        Span<byte> current = stackalloc byte[MostPages], changeable = stackalloc byte[MostPages];
        current.Clear();
        changeable.Clear();
        if (page == AllPages || AddPages(current, 0, page, isChangeable: false) != values.Length) return false;
        AddPages(changeable, 0, page, isChangeable: true);
        for (int i = 2; i < values.Length; i++)
            if (((values[i] ^ current[i]) & ~changeable[i]) != 0) return false;
        return true;
    }
}
