namespace Qkvm.Core.Tests.Configuration;

public class CatalogueTests
{
    sealed record Toy(string Name, Property[] Properties) : Model(Name, Properties);

    static readonly Toy Car = new("toy-car",
        [
            Property.Number("wheels", 4, 1, 8), Property.Automatic("speed", max: 100), Property.Size("room", 0),
            Property.Bool("fast", false),
            Property.OnOffAuto("lights"), Property.Enum("colour", "red", ["red", "blue"]),
            Property.Missing("radio", "off", "sing"), Property.Tree("cache"),
            Property.Text("name"),
        ]) { Aliases = ["car"] };

    static readonly Catalogue<Toy> Toys = new("toy", [Car, new Toy("toy-train", [])], () =>
        [new Toy("toy-plane", []) { NotBuilt = "is not built yet" }]);

    static string Error(Action action) => Assert.Throws<ConfigurationException>(action).Message;
    static Properties Of(string text, params (string, string, string)[] defaults) =>
        new(Car, Options.Parse(text, "-toy car"), defaults);

    [Fact]
    public void Models_are_made_once_and_not_before_somebody_looks()
    {
        int made = 0;
        var toys = new Catalogue<Toy>("toy", () =>
        {
            made++;
            return [Car];
        });
        Assert.Equal(0, made);
        Assert.Same(Car, toys.Find("toy-car"));
        Assert.Same(Car, Assert.Single(toys.Models));
        Assert.Equal(1, made);
    }

    [Fact]
    public void Names_and_aliases_are_found_and_others_explained()
    {
        Assert.Same(Car, Toys.Get("car", "-toy car"));
        Assert.Equal("-toy x: 'x' is not a toy", Error(() => Toys.Get("x", "-toy x")));
        Assert.Equal("-toy toy-cra: 'toy-cra' is not a toy; did you mean 'toy-car'?",
            Error(() => Toys.Get("toy-cra", "-toy toy-cra")));
        Assert.Equal("-toy toy-plane: 'toy-plane' is not built yet", Error(() =>
            Toys.Get("toy-plane", "-toy toy-plane")));
        Assert.Equal("-toy toy-plan: 'toy-plan' is not a toy; did you mean 'toy-plane' (not built yet)?",
            Error(() => Toys.Get("toy-plan", "-toy toy-plan")));
        Assert.Equal("toy-plane", Toys.Known("toy-plane", "").Name);
        Assert.Null(Toys.Find("toy-plane"));
        Assert.Equal(["toy-car", "toy-train"], Toys.Complete("toy-"));
    }

    [Fact]
    public void Properties_are_checked_and_have_defaults()
    {
        Properties none = Of("");
        Assert.Equal((4UL, null, "red", null), (none.Number("wheels"), none.NumberOrAuto("speed"), none.Text("colour"),
            none.OnOffAuto("lights")));
        Properties some = Of("wheels=0x6,speed=-1,room=2M,fast=yes,lights=off,cache.deep=1", ("wheels", "8", "-global"),
            ("colour", "blue", "-global"));
        Assert.Equal((6UL, null, 2UL << 20, true, false, "blue"),
            (some.Number("wheels"), some.NumberOrAuto("speed"), some.Size("room"), some.Bool("fast"),
                some.OnOffAuto("lights"), some.Text("colour")));
        Assert.Equal("1", some.Tree("cache")!.Text("deep"));
        Assert.Equal("6", some.Shown.Single(p => p.Name == "wheels").Value);
    }

    [Theory]
    [InlineData("wheels=9", "-toy car: wheels=9 is not in 1 to 8")]
    [InlineData("wheels=x", "-toy car: Parameter 'wheels' expects a number, not 'x'")]
    [InlineData("wheels=auto", "-toy car: Parameter 'wheels' expects a number, not 'auto'")]
    [InlineData("room=2Q", "-toy car: Parameter 'room' expects a size such as 512, 64k or 10G, not '2Q'")]
    [InlineData("fast=very", "-toy car: Parameter 'fast' expects 'on' or 'off', not 'very'")]
    [InlineData("lights=dim", "-toy car: Parameter 'lights' expects 'on', 'off' or 'auto', not 'dim'")]
    [InlineData("colour=green", "-toy car: colour=green: one of red, blue is expected")]
    [InlineData("radio=on", "-toy car: radio=on is not built yet; sing")]
    [InlineData("wheel=3", "-toy car: Property 'toy-car.wheel' not found; did you mean 'wheels'?")]
    [InlineData("name.x=3", "-toy car: Property 'toy-car.name.x' not found; did you mean 'name'?")]
    public void Mistakes_are_named(string text, string message) => Assert.Equal(message, Error(() => Of(text)));

    [Fact]
    public void What_is_missing_may_be_switched_off() => Assert.Equal("no", Of("radio=no").Text("radio"));

    [Fact]
    public void Help_shows_automatic_values_by_that_name()
    {
        var text = new StringWriter();
        Car.WriteHelp(text);
        Assert.Contains("speed=<number>", text.ToString());
        Assert.Contains("(default: auto)", text.ToString());
        Assert.DoesNotContain("18446744073709551615", text.ToString());
    }
}
