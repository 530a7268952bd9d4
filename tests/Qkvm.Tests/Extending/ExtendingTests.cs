using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Qkvm.Control;
using Qkvm.Core.Block;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Host;
using Qkvm.Machines;
using Qkvm.Storage.Graph;
using Qkvm.Machines.Pc;
using Qkvm.Testing;
using Qkvm.Tests.Control;

namespace Qkvm.Tests.Extending;

/// <summary>What docs/extending.md shows is what stands here, and it works when a catalogue has its line.</summary>
public partial class ExtendingTests
{
    static readonly MachineModel Other = PcMachine.Model with { Name = "pc-other", Aliases = [] };

    static Properties Given(Model model, string text) => new(model, Options.Parse(text, $"-x {text}"), []);

    [Fact]
    public void The_code_of_the_docs_is_compiled()
    {
        string examples = string.Concat(
            new[] { "tests/Qkvm.Tests/Extending", "tests/Qkvm.Hw.Tests/Isa" }
            .SelectMany(folder => Sources.Files(folder)).Select(File.ReadAllText));
        string[] blocks = [.. new[] { "extending.md", "adding-a-device.md" }
            .Select(name => File.ReadAllText(Path.Combine(Sources.Root, "docs", name)))
            .SelectMany(text => CodeBlock().Matches(text)).Select(m => Body(m.Groups[1].Value))];
        Assert.True(blocks.Length >= 8, $"only {blocks.Length} blocks");
        Assert.All(blocks.Where(block => block.Contains('\n', StringComparison.Ordinal)),
            block => Assert.Contains(block, examples, StringComparison.Ordinal));
    }

    /// <summary>Without usings and namespace.</summary>
    static string Body(string code)
    {
        Match start = Namespace().Match(code);
        return (start.Success ? code[(start.Index + start.Length)..] : code).Trim();
    }

    [Fact]
    public void A_character_device()
    {
        ICharBackend echo =
            new Catalogue<CharModel>("char driver", [EchoChar.Model]).Get("echo", "-chardev echo")
            .Create(Given(EchoChar.Model, "id=c"), null!);
        var guest = new Guest();
        echo.Connect(guest);
        Assert.Equal(3, echo.Write("hello"u8));
        Assert.Equal("hel", guest.Text);
    }

    [Fact]
    public void A_network()
    {
        NetBackend loop = LoopNet.Model.Create(Given(LoopNet.Model, "id=n"), null!);
        var card = new Card();
        var pump = new Pump();
        INetQueue queue = loop.Open(0, card, new PumpLoop(pump));
        queue.Send(default, new ScatterList(new byte[] { 1, 2, 3 }));
        pump.RunPosted();
        Assert.Equal([1, 2, 3], card.Last);
        queue.Send(default, new ScatterList(new byte[] { 4 }));
        queue.Dispose();
        pump.RunPosted();
        Assert.Equal([1, 2, 3], card.Last);
    }

    [Fact]
    public async Task A_block_driver()
    {
        var factory =
            new BlockFactory(new Catalogue<BlockDriverModel>("block driver", [NumberedDriver.Model]), _ => { });
        await using BlockDriver disk =
            factory.AddNode(Options.Parse("numbered,size=2M,node-name=n", "-blockdev", "driver"));
        var sector = new byte[512];
        await disk.ReadAsync(4095 * 512, new ScatterList(sector));
        Assert.Equal(2 << 20, disk.Length);
        Assert.Equal(4095, BitConverter.ToInt64(sector, 504));
        Assert.Contains("size", Assert.Throws<ConfigurationException>(() =>
            factory.AddNode(Options.Parse("numbered,siez=2M,node-name=m", "-blockdev", "driver"))).Message);
    }

    [Fact]
    public void An_object()
    {
        var entropy = (IEntropySource)RngFixed.Model.Create(Given(RngFixed.Model, "id=r,byte=7"), null!);
        var data = new byte[4];
        entropy.Fill(data);
        Assert.Equal([7, 7, 7, 7], data);
    }

    [Fact]
    public void A_machine()
    {
        var machines = new Catalogue<MachineModel>("machine type", [PcMachine.Model, Other]);
        Assert.Same(Other, machines.Get("pc-other", "-M pc-other"));
        Assert.Same(PcMachine.Model, machines.Get("pc", "-M pc"));
    }

    [Fact]
    public void A_command()
    {
        using var bench = new ControlBench();
        var commands = new CommandCatalogue([QueryTopology.Command]);
        var context = new CommandContext(bench.Machine, bench.Host, commands);
        using var json = new MemoryStream();
        using (var writer = new Utf8JsonWriter(json))
            bench.OnLoop(() => commands.Find("query-topology")!.RunAsync(context, default, writer).AsTask().Wait());
        Assert.Equal("""{"sockets":1,"cores":2}""", Encoding.UTF8.GetString(json.ToArray()));
    }

    sealed class Guest : ICharFrontend
    {
        public string Text { get; private set; } = "";
        public int Room => 3 - Text.Length;
        public void Receive(ReadOnlySpan<byte> data) => Text += Encoding.ASCII.GetString(data);
    }

    sealed class Card : INetPort
    {
        public byte[] Last { get; private set; } = [];

        public bool Receive(in NetHeader header, ReadOnlySpan<byte> frame)
        {
            Last = frame.ToArray();
            return true;
        }
    }

    [GeneratedRegex("```csharp\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex CodeBlock();

    [GeneratedRegex("^namespace [^\n]*;\n", RegexOptions.Multiline)]
    private static partial Regex Namespace();
}
