namespace Qkvm.Backends.Display.Curses;

/// <summary>What the numbers of a guest's font look like, in Unicode. Spec: the Unicode Consortium's mapping tables;
/// those of IBM's code pages and of KOI8-R, and ISO 8859.</summary>
sealed class CodePage
{
    public const string Default = "CP437";

    /// <summary>1 to 31, in the fonts of all PCs.</summary>
    const string Low = "☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";

    const char Delete = (char)0x7F, House = '⌂';

    static readonly Dictionary<string, string> s_upper = new(StringComparer.OrdinalIgnoreCase)
    {
        ["CP437"] =
            "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐"
            + "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ",
        ["CP850"] =
            "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐"
            + "└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈıÍÎÏ┘┌█▄¦Ì▀ÓßÔÒõÕµþÞÚÛÙýÝ¯´-±‗¾¶§÷¸°¨·¹³²■ ",
        ["CP852"] =
            "ÇüéâäůćçłëŐőîŹÄĆÉĹĺôöĽľŚśÖÜŤťŁ×čáíóúĄąŽžĘę¬źČş«»░▒▓│┤ÁÂĚŞ╣║╗╝Żż┐"
            + "└┴┬├─┼Ăă╚╔╩╦╠═╬¤đĐĎËďŇÍÎě┘┌█▄ŢŮ▀ÓßÔŃńňŠšŔÚŕŰýÝţ´-˝˛ˇ˘§÷¸°¨˙űŘř■ ",
        ["CP866"] =
            "АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмноп░▒▓│┤╡╢╖╕╣║╗╝╜╛┐"
            + "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀рстуфхцчшщъыьэюяЁёЄєЇїЎў°∙·√№¤■ ",
        ["KOI8-R"] =
            "─│┌┐└┘├┤┬┴┼▀▄█▌▐░▒▓⌠■∙√≈≤≥ ⌡°²·÷═║╒ё╓╔╕╖╗╘╙╚╛╜╝╞╟╠╡Ё╢╣╤╥╦╧╨╩╪╫╬©"
            + "юабцдефгхийклмнопярстужвьызшэщчъЮАБЦДЕФГХИЙКЛМНОПЯРСТУЖВЬЫЗШЭЩЧЪ",
        ["ISO-8859-1"] =
            "                                 ¡¢£¤¥¦§¨©ª«¬-®¯°±²³´µ¶·¸¹º»¼½¾¿"
            + "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
        ["ISO-8859-2"] =
            "                                 Ą˘Ł¤ĽŚ§¨ŠŞŤŹ-ŽŻ°ą˛ł´ľśˇ¸šşťź˝žż"
            + "ŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
        ["ISO-8859-15"] =
            "                                 ¡¢£€¥Š§š©ª«¬-®¯°±²³Žµ¶·ž¹º»ŒœŸ¿"
            + "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
    };

    readonly char[] _characters = new char[256];

    CodePage(string upper)
    {
        for (int i = 0; i < 256; i++)
            _characters[i] = i switch
            {
                0 => ' ',
                <= 31 => Low[i - 1],
                Delete => House,
                < 128 => (char)i,
                _ => upper[i - 128],
            };
    }

    public static IEnumerable<string> Names => s_upper.Keys;

    /// <summary>Null for one that is not there.</summary>
    public static CodePage? Find(string name) =>
        s_upper.TryGetValue(name.StartsWith("IBM", StringComparison.OrdinalIgnoreCase) ? $"CP{name[3..]}" : name,
            out string? upper) ? new CodePage(upper) : null;

    /// <summary>Never a control character.</summary>
    public char this[int glyph] => _characters[glyph & 255];
}
