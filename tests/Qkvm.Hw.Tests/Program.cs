using Qkvm.Hw.Tests.Net;

namespace Qkvm.Hw.Tests;

/// <summary>What is too long for a test.</summary>
static class Program
{
    static int Main(string[] arguments)
    {
        if (arguments is not ["fuzz-cards", var seconds, ..])
        {
            Console.Error.WriteLine("usage: fuzz-cards SECONDS [SEED]");
            return 2;
        }
        int seed = arguments.Length > 2 ? int.Parse(arguments[2]) : Environment.TickCount & 0xFFFFFF;
        CardFuzz.Run(seed, TimeSpan.FromSeconds(int.Parse(seconds)), Console.WriteLine);
        return 0;
    }
}
