using System.Text;

namespace Qkvm.Core.Tests.Configuration;

public class OptionsTests
{
    const string Owner = "-thing x";

    static string Error(Action action) => Assert.Throws<ConfigurationException>(action).Message;
    static string Flat(Options options) => string.Join(' ', options.Rest.Select(p => $"{p.Name}={p.Value}"));

    [Theory]
    [InlineData("a=b,c.d=e", """{"a":"b","c":{"d":"e"}}""")]
    [InlineData("on=on,off=off,n=5", """{"on":true,"off":false,"n":5}""")]
    [InlineData("list.0=x,list.1=y,deep.0.a=1", """{"list":["x","y"],"deep":[{"a":1}]}""")]
    public void Text_and_JSON_make_the_same_tree(string text, string json) =>
        Assert.Equal(Flat(Options.Parse(text, Owner)), Flat(Options.Parse(json, Owner)));

    [Theory]
    [InlineData("a,,b=c,,d", "a,b=c,d")]                           // doubled commas
    [InlineData("first,b=1", "kind=first b=1")]                    // the implied name
    [InlineData("kind=first,b=1", "kind=first b=1")]
    [InlineData("a=1", "a=1")]
    [InlineData("x,server,nowait", "kind=x server=on wait=off")]   // short forms
    [InlineData("x,a=b=c", "kind=x a=b=c")]
    [InlineData("x,a=", "kind=x a=")]
    [InlineData("x,.a=1,b.=2", "kind=x .a=1 b.=2")]                // dots at an end nest nothing
    public void The_grammar_is_what_users_know(string text, string flat) =>
        Assert.Equal(flat, Flat(Options.Parse(text, Owner, "kind")));

    [Theory]
    [InlineData("""{"a":{}}""", "a")]
    [InlineData("""{"a":[{},{"b":1},[]]}""", "a.0", "a.2")]
    public void Empty_objects_and_lists_stay_when_options_are_flat(string json, params string[] names)
    {
        Options options = Options.Of(Owner, Options.Parse(json, Owner).Rest);
        Assert.Equal(names, options.Rest.Where(pair => pair.IsEmpty).Select(pair => pair.Name));
        Assert.Equal(names, Options.Of(Owner, options.All).All.Where(pair => pair.IsEmpty).Select(pair => pair.Name));
        Assert.NotNull(options.Nested("a"));
        Assert.DoesNotContain("a", options.Rest.Select(pair => pair.Name));
    }

    [Fact]
    public void An_empty_object_that_nobody_asked_for_is_refused() => Assert.Equal(
        $"{Owner}: invalid parameter 'a'", Error(Options.Of(Owner, Options.Parse("""{"a":{}}""", Owner).Rest).Close));

    [Fact]
    public void The_last_of_several_counts_and_all_can_be_had()
    {
        Options options = Options.Parse("fwd=a,x=1,fwd=b,fwd=c", Owner);
        Assert.Equal("fwd=a fwd=b fwd=c x=1", Flat(options));
        Assert.Equal("c", options.Text("fwd"));
        Assert.Equal(["a", "b", "c"], options.Texts("fwd"));
        Assert.Equal("x=1", Flat(options));
        Assert.Empty(options.Texts("none"));
    }

    [Fact]
    public void A_name_may_have_a_text_and_values_below_it()
    {
        Options options = Options.Parse("file=a.img,file.locking=off", Owner);
        Assert.Equal("a.img", options.Text("file"));
        Assert.Equal($"{Owner}: invalid parameter 'file.locking'", Error(options.Close));
        Assert.False(options.Nested("file")!.Bool("locking"));
        options.Close();
    }

    [Theory]
    [InlineData("size=64k", 65536L)] [InlineData("size=1.5M", 1572864L)] [InlineData("size=0x10", 16L)]
    [InlineData("size=7", 7L)] [InlineData("size=2T", 2L << 40)]
    public void Sizes_have_suffixes(string text, long expected) => Assert.Equal(expected, Options.Parse(text, Owner)
        .Size("size"));

    [Fact]
    public void Wrong_values_are_named_with_what_would_be_right()
    {
        Options options = Options.Parse("b=maybe,n=300,m=-5,s=2Q,s2=9E,deep.b=perhaps", Owner);
        Assert.Equal($"{Owner}: b=maybe: expects 'on' or 'off'", Error(() => options.Bool("b")));
        Assert.Equal($"{Owner}: n=300: expects a number from 0 to 255", Error(() => options.Number("n", 0, 255)));
        Assert.Equal($"{Owner}: m=-5: expects a number from -1 to 9", Error(() => options.Number("m", -1, 9)));
        Assert.Equal(-5, options.Number("m", -9, 9));
        Assert.Contains("s=2Q is not a size", Error(() => options.Size("s")));
        Assert.Contains("is not a size", Error(() => options.Size("s2")));
        Assert.Equal($"{Owner}: deep.b=perhaps: expects 'on' or 'off'", Error(() => options.Nested("deep")!.Bool("b")));
        Assert.Equal($"{Owner}: needs path=", Error(() => options.Required("path")));
    }

    [Fact]
    public void What_nobody_took_is_refused_with_the_nearest_name()
    {
        Options options = Options.Parse("format=raw,fromat=raw", Owner);
        options.Text("format");
        options.Text("readonly");
        Assert.Equal($"{Owner}: invalid parameter 'fromat'", Error(options.Close));        // format was given, too
        options = Options.Parse("raedonly=on", Owner);
        options.Text("readonly");
        Assert.Equal($"{Owner}: invalid parameter 'raedonly'; did you mean 'readonly'?", Error(options.Close));
        Assert.Contains("'empty'", Error(Options.ParseJson("""{"empty":{}}""", Owner).Close));
        Assert.Contains("'a'", Error(Options.ParseJson("""{"a":null}""", Owner).Close));
    }

    [Fact]
    public void Null_is_not_nothing()
    {
        Options options = Options.ParseJson("""{"backing":null}""", Owner);
        Assert.True(options.IsNull("backing"));
        Assert.False(options.IsNull("file"));
        Assert.Null(options.Text("backing"));
        options.Close();
    }

    [Fact]
    public void Lists_are_taken_in_order_and_have_no_holes()
    {
        Options options = Options.Parse("a.0=x,a.1=y,b.0=x,b.2=z", Owner);
        Assert.Equal(["x", "y"], options.List("a"));
        Assert.Equal($"{Owner}: b.1 is missing from the list", Error(() => options.List("b")));
        Assert.Empty(options.List("c"));
    }

    [Fact]
    public void What_is_hostile_is_bounded()
    {
        Assert.Contains("levels", Error(() => Options.Parse(string.Join('.', Enumerable.Repeat("a", 100)) + "=1",
            Owner)));
        Assert.Contains("JSON",
            Error(() => Options.Parse(new StringBuilder().Insert(0, """{"a":""", 1000).ToString(), Owner)));
        Assert.Contains("JSON", Error(() => Options.Parse("{\"a\":\"\\ud800\"", Owner)));
        Assert.Contains("values", Error(() => Options.Parse(string.Join(',',
            Enumerable.Repeat("a=1", Options.MaxValues + 1)), Owner)));
        Options options = Options.Parse(new string('x', 100_000) + "=1", Owner);
        options.Text(new string('x', 99_999));
        Assert.DoesNotContain("did you mean", Error(options.Close));                       // no search over such names
    }

    [Fact]
    public void Random_text_never_throws_anything_else()
    {
        const string Letters = "ab=,,..{}[]\"no:1 ";
        var random = new Random(1);
        for (int i = 0; i < 20_000; i++)
        {
            string text = new([.. Enumerable.Range(0, random.Next(20))
                .Select(_ => Letters[random.Next(Letters.Length)])]);
            try { Options.Parse(text, Owner, "kind").Close(); }
            catch (ConfigurationException) { }
        }
    }
}
