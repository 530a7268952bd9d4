using Qkvm.Core.Tpm;

namespace Qkvm.Machines.Firmware;

/// <summary>The table that tells of a TPM: TCPA of version 1.2, TPM2 of 2.0. Spec: TCG ACPI Specification 1.2, chapter
/// 7.</summary>
static class TpmTables
{
    const ushort Client = 0;                                       // platform class
    const byte TcpaRevision = 2, Tpm2Revision = 4;
    const int StartParameters = 12;                                // bytes, none of which these methods use

    /// <summary>The address of the event log, which comes last, is 0.</summary>
    public static byte[] Build(ITpmDevice tpm) => (tpm.Tpm.Version == TpmVersion.V12
        ? new AcpiTable("TCPA", TcpaRevision).U16(Client)
        : new AcpiTable("TPM2", Tpm2Revision).U16(Client).U16(0).U64(tpm.ControlArea).U32(tpm.StartMethod)
            .Zeros(StartParameters)).U32(ITpmDevice.LogSize).U64(0).ToArray();
}
