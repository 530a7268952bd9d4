using Qkvm.Tests.Control.Fuzz;

namespace Qkvm.Tests;

/// <summary>What is too long for a test.</summary>
static class Program
{
    static int Main(string[] arguments)
    {
        switch (arguments)
        {
            case ["fuzz-control", var seconds, ..]:
                int seed = arguments.Length > 2 ? int.Parse(arguments[2]) : Environment.TickCount & int.MaxValue;
                ControlFuzz.Run(seed, TimeSpan.FromSeconds(int.Parse(seconds)), Console.WriteLine);
                return 0;
            default:
                Console.Error.WriteLine("usage: fuzz-control SECONDS [SEED]");
                return 2;
        }
    }
}
