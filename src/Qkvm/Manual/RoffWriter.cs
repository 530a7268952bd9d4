using System.Text;

namespace Qkvm.Manual;

/// <summary>A page for man, in the macros of man(7).</summary>
sealed class RoffWriter
{
    readonly StringBuilder _text = new();

    /// <param name="name">"qkvm"; section 1.</param>
    public RoffWriter(string name, string version) =>
        _text.Append($".TH {name.ToUpperInvariant()} 1 \"\" \"qkvm {version}\" \"User commands\"\n");

    public void Section(string title) => _text.Append($".SH {Escape(title.ToUpperInvariant())}\n");
    public void Part(string title) => _text.Append($".SS {Escape(title)}\n");
    public void Paragraph(string text) => _text.Append($".PP\n{Line(text)}\n");

    /// <summary>A word and what it means.</summary>
    /// <param name="argument">Behind the word; empty for none.</param>
    public void Item(string word, string argument, string meaning) =>
        _text.Append($".TP\n\\fB{Escape(word)}\\fR{(argument.Length == 0 ? "" : $" \\fI{Escape(argument)}\\fR")}\n")
            .Append($"{string.Join("\n.br\n", meaning.Split('\n').Select(Line))}\n");

    /// <summary>Lines as they are typed.</summary>
    public void Example(string lines) =>
        _text.Append($".PP\n.nf\n.RS\n{string.Join('\n', lines.Split('\n').Select(Line))}\n.RE\n.fi\n");

    public override string ToString() => _text.ToString();

    /// <summary>A dot or an apostrophe at the beginning would be a request: groff(7).</summary>
    static string Line(string text) => text.StartsWith('.') || text.StartsWith('\'') ? $@"\&{Escape(text)}"
        : Escape(text);

    static string Escape(string text) => text.Replace(@"\", @"\e").Replace("-", @"\-").Replace("…", "...");
}
