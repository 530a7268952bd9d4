using Qkvm.Core.Acpi;
using static Qkvm.Core.Acpi.Aml;

namespace Qkvm.Machines.Firmware;

/// <summary>The SSDT with the root device of NVDIMMs and a device for each: their _DSM methods, over
/// <see cref="NvdimmMethods"/>. Spec: ACPI 6.5, sections 9.20.2 and 9.20.3; Intel's "NVDIMM DSM Interface".</summary>
/// <remarks>Deviation: labels are read and written by _DSM alone, not by _LSI, _LSR and _LSW.</remarks>
static class NvdimmTables
{
    /// <summary>The page of calls, which the firmware places.</summary>
    public const string PageFile = "etc/acpi/nvdimm-mem";

    const byte DwordPrefix = 0x0C;
    const string Page = "MEMA", RootCalls = "2F10E7A4-9E91-11E4-89D3-123B93F75CBA",
        DeviceCalls = "4309AC30-0D11-11E4-9191-0800200C9A66";
    const int PackageType = 4;                                     // of ObjectType
    const int Bits = 8;

    /// <param name="pointer">Where in the table the page's address is to be; four bytes.</param>
    public static byte[] Build(IEnumerable<Nvdimm> nvdimms, out int pointer)
    {
        Aml page = Name(Page, new([DwordPrefix, .. Number(0, sizeof(uint))]));
        byte[] table = new AcpiTable("SSDT", 1).Bytes(Join(
            Scope(@"\_SB", Device("NVDR",
            [
                Name("_HID", Text("ACPI0012")),
                Call(),
                Calls(0, RootCalls),
                .. nvdimms.Select(nvdimm => Device($"NV{nvdimm.Slot:X2}",
                    Name("_ADR", (int)nvdimm.Handle), Calls((int)nvdimm.Handle, DeviceCalls))),
            ])),
            page)).ToArray();
        pointer = table.Length - sizeof(uint);
        return table;
    }

    static Aml Calls(int handle, string uuid) =>
        Method("_DSM", 4, Return(Aml.Call("NCAL", Arg0, Arg1, Arg2, Arg3, handle, Uuid(uuid))));

    /// <summary>NCAL: _DSM's four arguments, the handle, and the UUID whose functions there are.</summary>
    static Aml Call() => SerializedMethod("NCAL", 6,
        If(Not(Equal(Arg0, Arg5)),
            If(Equal(Arg2, 0), Return(Buffer([0]))),
            Return(Buffer([1]))),                                  // not supported
        OperationRegion("NPIO", AmlRegionSpace.SystemIo, (int)NvdimmMethods.Port, (int)NvdimmMethods.Size),
        Field("NPIO", AmlAccess.Dword, ("NTFI", 32)),
        OperationRegion("NRAM", AmlRegionSpace.SystemMemory, Ref(Page), NvdimmMethods.PageSize),
        Field("NRAM", AmlAccess.Any, ("HDLE", 32), ("REVS", 32), ("FUNC", 32),
            ("FARG", (NvdimmMethods.PageSize - NvdimmMethods.Arguments) * Bits)),
        Field("NRAM", AmlAccess.Any, ("RLEN", 32), ("ODAT", (NvdimmMethods.PageSize - NvdimmMethods.Result) * Bits)),
        Store(Arg4, Ref("HDLE")),
        Store(Arg1, Ref("REVS")),
        Store(Arg2, Ref("FUNC")),
        If(BothOf(Equal(ObjectType(Arg3), PackageType), Equal(SizeOf(Arg3), 1)),
            Store(DerefOf(Index(Arg3, 0)), Local2),
            Store(Local2, Ref("FARG"))),
        Store(Ref(Page), Ref("NTFI")),
        Subtract(Ref("RLEN"), NvdimmMethods.Result, Local1),
        Store(Ref("ODAT"), Local3),
        Return(Mid(Local3, 0, Local1)));
}
