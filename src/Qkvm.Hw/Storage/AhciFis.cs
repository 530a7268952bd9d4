using System.Buffers.Binary;

namespace Qkvm.Hw.Storage;

/// <summary>Frame information structures, as they lie in memory. Serial ATA 2.6, section 10.3; where received ones go:
/// AHCI 1.3.1, section 4.2.1.</summary>
static class AhciFis
{
    // What the host sends: Register, Host to Device
    public const byte HostToDevice = 0x27, IsCommand = 0x80, PortMultiplier = 0x0F;
    public const int CommandLength = 64, Type = 0, Flags = 1, Command = 2, Control = 15;
    public const byte SoftwareReset = 4;                           // in Control

    // Offsets in the area of what is received
    public const int PioSetupAt = 0x20, RegistersAt = 0x40, DeviceBitsAt = 0x58;
    public const int RegistersLength = 20, DeviceBitsLength = 8;

    const byte DeviceToHost = 0x34, PioSetup = 0x5F, SetDeviceBits = 0xA1;
    const byte Interrupt = 0x40, ToHost = 0x20;                    // flags

    /// <summary>The host's registers go to the drive; of a pair the byte written first is the high-order
    /// one.</summary>
    public static void LoadRegisters(IdeDrive drive, ReadOnlySpan<byte> fis)
    {
        drive.WriteRegister(1, fis[11]);
        drive.WriteRegister(1, fis[3]);
        drive.WriteRegister(2, fis[13]);
        drive.WriteRegister(2, fis[12]);
        for (int i = 0; i < 3; i++)
        {
            drive.WriteRegister(3 + i, fis[8 + i]);
            drive.WriteRegister(3 + i, fis[4 + i]);
        }
        drive.WriteRegister(6, fis[7]);
    }

    public static void FillRegisters(Span<byte> fis, IdeDrive drive, bool interrupt)
    {
        fis.Clear();
        (fis[0], fis[1], fis[2], fis[3]) =
            (DeviceToHost, interrupt ? Interrupt : (byte)0, drive.ReadRegister(7, false), drive.ReadRegister(1, false));
        for (int i = 0; i < 3; i++)
            (fis[4 + i], fis[8 + i]) = (drive.ReadRegister(3 + i, false), drive.ReadRegister(3 + i, true));
        (fis[7], fis[12], fis[13]) =
            (drive.ReadRegister(6, false), drive.ReadRegister(2, false), drive.ReadRegister(2, true));
    }

    /// <param name="length">Bytes of the data block.</param>
    /// <param name="ending">The status when it has been transferred.</param>
    public static void FillPioSetup(Span<byte> fis, IdeDrive drive, int length, bool interrupt, byte ending)
    {
        FillRegisters(fis, drive, interrupt);
        (fis[0], fis[15]) = (PioSetup, ending);
        if (!drive.HostWrites) fis[1] |= ToHost;
        BinaryPrimitives.WriteUInt16LittleEndian(fis[16..], (ushort)length);
    }

    /// <param name="ended">The tags whose commands have ended.</param>
    public static void FillDeviceBits(Span<byte> fis, IdeDrive drive, uint ended)
    {
        const byte StatusBits = 0x77;                              // without those that a command is busy by
        (fis[0], fis[1], fis[2], fis[3]) = (SetDeviceBits, Interrupt,
            (byte)(drive.ReadRegister(7, false) & StatusBits), drive.ReadRegister(1, false));
        BinaryPrimitives.WriteUInt32LittleEndian(fis[4..], ended);
    }
}
