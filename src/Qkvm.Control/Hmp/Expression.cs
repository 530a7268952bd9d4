using Qkvm.Core.Accel;

namespace Qkvm.Control.Hmp;

/// <summary>Numbers as the monitor takes them: 0x10, 16, $pc, sums and differences of such.</summary>
public static class Expression
{
    /// <returns>Null for what is no number.</returns>
    public static ulong? Evaluate(string text, IVCpu? cpu)
    {
        ulong sum = 0;
        int at = 0;
        bool minus = false, any = false;
        while (at < text.Length)
        {
            if (text[at] is '+' or '-')
            {
                minus = text[at++] == '-';
                continue;
            }
            int end = text.IndexOfAny(['+', '-'], at);
            if (end < 0) end = text.Length;
            if (Term(text[at..end].Trim(), cpu) is not { } term) return null;
            sum = minus ? sum - term : sum + term;
            (minus, any, at) = (false, true, end);
        }
        return any ? sum : null;
    }

    static ulong? Term(string text, IVCpu? cpu)
    {
        if (text.StartsWith('$'))
            return cpu != null && text is "$pc" or "$rip" or "$eip" ? cpu!.InstructionPointer : null;
        return Properties.TryParseNumber(text, out ulong value) ? value : null;
    }
}
