using Qkvm.Cli;
using Qkvm.Core.Machine;

namespace Qkvm.Tests;

/// <summary>-audiodev and -audio, before anything is opened.</summary>
public class AudioOptionTests
{
    static MachineConfig Expand(params string[] arguments) => Expander.Expand(CommandLineParser.Parse(arguments));

    static string Refusal(params string[] arguments) =>
        Assert.Throws<ConfigurationException>(() => Preflight.Check(Expand(arguments))).Message;

    [Theory]
    [InlineData("ac97", "AC97")] [InlineData("es1370", "ES1370")] [InlineData("sb16", "sb16")]
    [InlineData("hda", "intel-hda hda-duplex")]
    public void A_short_form_is_an_audiodev_and_the_devices_of_its_card(string model, string devices)
    {
        MachineConfig config = Expand("-nodefaults", "-audio", $"driver=wav,path=/tmp/a.wav,model={model}");
        AudioConfig audiodev = Assert.Single(config.Audiodevs);
        Assert.Equal(("audiodev0", "wav"), (audiodev.Id, audiodev.Driver));
        Assert.Equal(devices, string.Join(' ', config.Devices.Select(device => device.Driver)));
        Assert.Equal("audiodev0", config.Devices[^1].Properties.Text("audiodev"));
    }

    [Fact]
    public void The_driver_may_stand_first_and_the_id_may_be_given()
    {
        MachineConfig config = Expand("-audio", "none,model=ac97,id=x");
        Assert.Equal(("x", "none"), (config.Audiodevs[0].Id, config.Audiodevs[0].Driver));
    }

    [Theory]
    [InlineData("none", "Parameter 'model' is missing: one of ac97, es1370, hda, sb16")]
    [InlineData("none,model=gus", "model=gus is not built yet; there are ac97, es1370, hda, sb16")]
    [InlineData("none,model=ac79", "Unknown sound card name 'ac79'; did you mean 'ac97'?")]
    [InlineData("pa,model=ac97", "'pa' is not built yet; use wav")]
    [InlineData("none,model=ac97,colour=red", "colour")]
    public void What_is_wrong_is_named_with_what_there_is(string given, string message) =>
        Assert.Contains(message, Refusal("-audio", given));

    [Fact]
    public void One_card_at_most_has_the_short_form() => Assert.Contains("only one -audio option is allowed",
        Refusal("-audio", "none,model=ac97", "-audio", "none,model=hda,id=b"));

    [Theory]
    [InlineData("timer-period=0")] [InlineData("out.channels=3")] [InlineData("out.frequency=0")]
    [InlineData("in.voices=0")] [InlineData("out.mixing-engine=off")]
    public void Values_out_of_range_and_what_is_not_built_are_refused(string given) =>
        Assert.Contains(given, Refusal("-audiodev", $"wav,id=a,{given}"));

    [Fact]
    public void JSON_is_the_same() => Assert.Equal("wav", Expand("-audiodev",
        """{"driver":"wav","id":"a","path":"/tmp/x.wav","out":{"frequency":48000}}""").Audiodevs[0].Driver);
}
