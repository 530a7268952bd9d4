using Qkvm.Storage.Tests.Fuzz;

namespace Qkvm.Storage.Tests;

/// <summary>What is too long for a test.</summary>
static class Program
{
    static int Main(string[] arguments)
    {
        switch (arguments)
        {
            case ["fuzz-images", var seconds, ..]:
                int seed = arguments.Length > 2 ? int.Parse(arguments[2]) : Environment.TickCount & int.MaxValue;
                return ImageFuzz.Run(seed, TimeSpan.FromSeconds(int.Parse(seconds)), Console.WriteLine);
            default:
                Console.Error.WriteLine("usage: fuzz-images SECONDS [SEED]");
                return 2;
        }
    }
}
