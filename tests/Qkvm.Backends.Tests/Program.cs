using Qkvm.Backends.Tests.Net.User;

namespace Qkvm.Backends.Tests;

/// <summary>What is too long for a test.</summary>
static class Program
{
    static int Main(string[] arguments)
    {
        switch (arguments)
        {
            case ["bench-user", ..]:
                UserNetBench.Run(arguments.Length > 1 ? int.Parse(arguments[1]) : 5);
                return 0;
            case ["fuzz-net", var seconds, ..]:
                int seed = arguments.Length > 2 ? int.Parse(arguments[2]) : Environment.TickCount;
                UserNetFuzz.Run(seed, TimeSpan.FromSeconds(int.Parse(seconds)), Console.WriteLine);
                return 0;
            case ["fuzz-vnc", var seconds, ..]:
                Display.VncFuzz.Run(arguments.Length > 2 ? int.Parse(arguments[2]) : Environment.TickCount,
                    TimeSpan.FromSeconds(int.Parse(seconds)), Console.WriteLine);
                return 0;
            case ["bench-display", .. { Length: 6 } words]:
                Display.DisplayBench.Run(words, Console.WriteLine);
                return 0;
            default:
                Console.Error.WriteLine("usage: bench-user [SECONDS], fuzz-net SECONDS [SEED] or "
                    + "fuzz-vnc SECONDS [SEED]");
                return 2;
        }
    }
}
