namespace Qkvm.Img;

/// <summary>Words of a command line that a user can paste into a shell.</summary>
static class ShellWord
{
    public static string Quote(string word) =>
        word.Length > 0 && word.All(c => char.IsAsciiLetterOrDigit(c) || "-_./:=,+@%".Contains(c)) ? word
            : $"'{word.Replace("'", "'\\''")}'";
}
