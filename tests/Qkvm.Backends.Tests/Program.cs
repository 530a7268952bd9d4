using Qkvm.Backends.Tests.Net.User;

namespace Qkvm.Backends.Tests;

/// <summary>What is too long for a test: "bench-user".</summary>
static class Program
{
    static int Main(string[] arguments)
    {
        switch (arguments)
        {
            case ["bench-user", ..]:
                UserNetBench.Run(arguments.Length > 1 ? int.Parse(arguments[1]) : 5);
                return 0;
            default:
                Console.Error.WriteLine("usage: bench-user [SECONDS]");
                return 2;
        }
    }
}
