using System.Globalization;
using Qkvm.Core.Pci;
using Qkvm.Testing;
using Qkvm.Tests.State;

namespace Qkvm.Tests;

/// <summary>The configuration space of bridges, ports and others as it is at power-on, and which bits a guest can
/// write. The values were read from QEMU 7.2 over its test interface, capability by capability.</summary>
public sealed class BridgeTests
{
    const string ErrorReporting = "10c:00462030/03fff030 114:0000e000/0000f1c1 118:000002a0/00000540 ";

    [Theory]
    [InlineData("pcie-root-port", "000:000c1b36/0 008:06040000/0 034:00000054/0 03c:00000100/005f00ff 040:0000000d/0 "
        + "044:00001b36/0 048:00004011/c0000000 050:00000800/0 054:01424810/0 058:00008000/0 05c:00000000/f "
        + "060:00300604/0 064:02040000/0 068:0002007b/0 06c:000007c0/000007f9 070:00000000/7 078:00300020/0 "
        + "07c:00000000/00008020 080:0000001e/0 084:00000004/0 100:14820001/0 " + ErrorReporting
        + "12c:00000000/7 148:0001000d/0")]
    [InlineData("ioh3420", "000:34208086/0 008:06040002/0 034:00000090/0 03c:00000100/005f00ff 040:0000000d/0 "
        + "044:00008086/0 060:01024005/00110000 064:00000000/fffffffc 06c:00000000/3 090:01426010/0 094:00008000/0 "
        + "098:00000000/f 09c:00000411/0 0a4:0002007b/0 0a8:000007c0/000007f9 0b4:00300020/0 " + ErrorReporting)]
    [InlineData("x3130-upstream", "000:8232104c/0 008:06040002/0 034:00000090/0 03c:00000000/005f00ff "
        + "070:00800005/00010000 080:0000700d/0 090:00528010/0 09c:00000411/0 0b4:00300000/0 0b8:00000000/00008000 "
        + ErrorReporting)]
    [InlineData("xio3130-downstream", "000:8233104c/0 008:06040001/0 034:00000090/0 03c:00000000/005f00ff "
        + "070:00800005/00010000 080:0000700d/0 090:01628010/0 0a4:0002007b/0 0a8:000007c0/000007f9 0b4:00300020/0 "
        + ErrorReporting)]
    [InlineData("pcie-pci-bridge", "000:000e1b36/0 004:00b00000/0 008:06040000/0 01c:00a00000/0000f0f0 034:0000008c/0 "
        + "03c:00000100/0bff00ff 04c:00008000/0 050:00000000/f 054:00000411/0 06c:00300020/0 084:00034801/0 "
        + "08c:01808405/00010000 090:00000000/fffffffc 09c:00000000/1 100:00020001/0 10c:00462030/03fff030 "
        + "118:000000a0/00000140")]
    [InlineData("i82801b11-bridge", "000:244e8086/0 004:00b00000/0 008:06040192/0 01c:00a00000/0000f0f0 "
        + "034:00000050/0 03c:00000000/0bff00ff 050:0000000d/0")]
    [InlineData("pxb-pcie", "000:000b1b36/0 004:00a00000/0 008:06000000/0 02c:11001af4/0 034:00000000/0")]
    [InlineData("e1000e", "000:10d38086/0 034:000000c8/0 03c:00000100/000000ff 0a0:00040011/c0000000 0a4:00000003/0 "
        + "0a8:00002003/0 0c8:0022d001/0 0cc:00000000/00001f03 0d0:0080e005/00010000 0d4:00000000/fffffffc "
        + "0e0:0091a010/0 0e4:00008000/0 0e8:00000000/0 0ec:00000411/0 0f0:00110000/0 100:14020001/0 "
        + "10c:00462030/03fff030 114:0000e000/0000f1c1 118:000000a0/00000140 140:00010003/0 144:ff123456/0 "
        + "148:525400ff/0")]
    public void A_function_reads_as_QEMUs(string model, string registers)
    {
        using var bench = new StateBench(new FakeClock(), Catalogue.Devices.Find(model)!, q35: true);
        var function = Assert.IsAssignableFrom<PciDevice>(bench.Device);
        var (expected, seen) = (new List<string>(), new List<string>());
        foreach (string register in registers.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            string[] parts = register.Split(':', '/');
            int offset = int.Parse(parts[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            uint mask = uint.Parse(parts[2], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            expected.Add($"{parts[0]}:{parts[1]}/{mask:x8}");
            uint initial = Read(offset);
            seen.Add($"{offset:x3}:{initial:x8}/{(offset == PciConfig.Command ? 0 : Writable(offset)):x8}");
        }
        Assert.Equal(expected, seen);

        uint Read(int offset) => function.Bus.ReadConfig(function.DevFn, offset, 4);

        uint Writable(int offset)
        {
            uint before = Read(offset);
            function.Bus.WriteConfig(function.DevFn, offset, 4, uint.MaxValue);
            uint ones = Read(offset);
            function.Bus.WriteConfig(function.DevFn, offset, 4, 0);
            uint zeros = Read(offset);
            function.Bus.WriteConfig(function.DevFn, offset, 4, before);
            return ones ^ zeros;
        }
    }
}
