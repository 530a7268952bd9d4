namespace Qkvm.Control.Tests;

/// <summary>What is too long for a test.</summary>
static class Program
{
    static int Main(string[] arguments)
    {
        switch (arguments)
        {
            case ["bench-steps", var port, var count]:
                StepBench.Run(int.Parse(port), int.Parse(count), Console.WriteLine);
                return 0;
            default:
                Console.Error.WriteLine("usage: bench-steps PORT COUNT");
                return 2;
        }
    }
}
