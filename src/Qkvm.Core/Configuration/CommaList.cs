using System.Text;

namespace Qkvm.Core.Configuration;

/// <summary>Lists as users type them: items between single commas, where two commas stand for one of an item.</summary>
public static class CommaList
{
    /// <summary>The item from a place on; moves the place behind the comma that ends it.</summary>
    /// <param name="equals">The place of the item's first '=', or -1.</param>
    public static string Next(string text, ref int at, out int equals)
    {
        var item = new StringBuilder();
        equals = -1;
        for (; at < text.Length; at++)
        {
            if (text[at] == ',')
            {
                if (at + 1 >= text.Length || text[at + 1] != ',') break;
                at++;
            }
            if (text[at] == '=' && equals < 0) equals = item.Length;
            item.Append(text[at]);
        }
        at++;
        return item.ToString();
    }

    /// <summary>All items that are not empty.</summary>
    public static IEnumerable<string> Split(string text)
    {
        for (int at = 0; at < text.Length;)
            if (Next(text, ref at, out _) is { Length: > 0 } item)
                yield return item;
    }
}
