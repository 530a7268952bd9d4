using Qkvm.Cli;

namespace Qkvm.Tests;

/// <summary>qkvm man: pages from the catalogues, in man's own language.</summary>
public sealed class ManualTests
{
    static string Page(params string[] words)
    {
        using var output = new StringWriter();
        Assert.Equal(0, Manual.Manual.Run(words, output, TextWriter.Null));
        return output.ToString();
    }

    [Fact]
    public void Each_option_that_works_has_an_item()
    {
        string page = Page();
        foreach (OptionSpec option in OptionCatalogue.All)
        {
            string item = $"\n.TP\n\\fB\\-{option.Name.Replace("-", "\\-")}\\fR";
            Assert.Equal(option.NotYet == null, page.Contains(item + "\n") || page.Contains(item + " "));
        }
    }

    [Theory]
    [InlineData(new string[0], ".TH QKVM 1 ")]
    [InlineData(new[] { "img" }, ".TH QKVM-IMG 1 ")]
    public void No_line_of_text_is_a_request_by_mistake(string[] words, string first)
    {
        string page = Page(words);
        Assert.StartsWith(first, page);
        string[] known = [".TH", ".SH", ".SS", ".PP", ".TP", ".br", ".nf", ".fi", ".RS", ".RE"];
        Assert.All(page.Split('\n').Where(line => line.StartsWith('.') || line.StartsWith('\'')),
            line => Assert.Contains(line.Split(' ')[0], known));
        Assert.DoesNotContain("\\fI\\fR", page);
    }

    [Fact]
    public void Subcommands_of_the_image_tool_are_there() =>
        Assert.Contains("\n\\fBconvert\\fR \\fI[\\-\\-object objectdef]", Page("img"));

    [Fact]
    public void Other_pages_are_refused()
    {
        using var errors = new StringWriter();
        Assert.Equal(1, Manual.Manual.Run(["nosuch"], TextWriter.Null, errors));
        Assert.Equal("qkvm man nosuch: expects nothing, or img\n", errors.ToString());
    }
}
