using Qkvm.Hw.Tests.Net;
using Qkvm.Hw.Tests.Storage;
using Qkvm.Hw.Tests.Usb;

namespace Qkvm.Hw.Tests;

/// <summary>What is too long for a test.</summary>
static class Program
{
    static int Main(string[] arguments)
    {
        if (arguments is not [("fuzz-cards" or "fuzz-disks" or "fuzz-usb") and var what, var seconds, ..])
        {
            Console.Error.WriteLine("usage: fuzz-cards|fuzz-disks|fuzz-usb SECONDS [SEED]");
            return 2;
        }
        int seed = arguments.Length > 2 ? int.Parse(arguments[2]) : Environment.TickCount & 0xFFFFFF;
        TimeSpan time = TimeSpan.FromSeconds(int.Parse(seconds));
        if (what == "fuzz-usb") UsbFuzz.Run(seed, time, Console.WriteLine);
        else if (what == "fuzz-disks") DiskFuzz.Run(seed, time, Console.WriteLine);
        else CardFuzz.Run(seed, time, Console.WriteLine);
        return 0;
    }
}
