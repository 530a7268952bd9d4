using System.Diagnostics;
using System.Text.Json;
using Qkvm.Backends.Net.User;
using Qkvm.Core.Net;

namespace Qkvm.Backends.Tests.Net.User;

/// <summary>iperf3 in this machine's kernel as the guest, through the user network and through slirp4netns, which is
/// libslirp.</summary>
static class UserNetBench
{
    const int Port = 5333;
    static readonly (string Name, string Options)[] s_runs =
        [("out", ""), ("in", "-R"), ("out, 4 streams", "-P 4"), ("in, 4 streams", "-R -P 4")];

    public static void Run(int seconds)
    {
        using Process server = Process.Start(new ProcessStartInfo("iperf3", $"-s -B 127.0.0.1 -p {Port}")
            { RedirectStandardOutput = true })!;
        Thread.Sleep(500);
        const NetOffloads all = NetOffloads.Checksum | NetOffloads.Tso4 | NetOffloads.Tso6;
        using (var guest = new KernelGuest(UserNetOptions.Default("n"), all))
            Measure("this, 64 KiB", line => guest.Run(line), seconds);
        using (var guest = new KernelGuest(UserNetOptions.Default("n"), NetOffloads.None))
            Measure("this, 1460 B", line => guest.Run(line), seconds);
        if (File.Exists("/usr/bin/slirp4netns")) Libslirp(seconds);
        server.Kill();
    }

    static void Libslirp(int seconds)
    {
        using Process holder = Process.Start("unshare", ["-n", "sleep", "600"]);
        Thread.Sleep(300);
        using Process slirp = Process.Start(new ProcessStartInfo("slirp4netns", $"-c {holder.Id} tap0")
            { RedirectStandardOutput = true, RedirectStandardError = true })!;
        Thread.Sleep(1500);
        Measure("libslirp", line => Shell($"nsenter --net=/proc/{holder.Id}/ns/net {line}"), seconds);
        slirp.Kill();
        holder.Kill();
    }

    static void Measure(string name, Func<string, string> run, int seconds)
    {
        foreach ((string what, string options) in s_runs)
        {
            string json = run($"iperf3 -J -c 10.0.2.2 -p {Port} -t {seconds} {options}");
            using JsonDocument report = JsonDocument.Parse(json);
            double rate = report.RootElement.GetProperty("end").GetProperty("sum_received")
                .GetProperty("bits_per_second").GetDouble();
            Console.WriteLine($"{name,-14} {what,-16} {rate / 1e9,6:f2} Gbit/s");
        }
    }

    static string Shell(string line)
    {
        using Process process = Process.Start(new ProcessStartInfo("/bin/sh", ["-c", line])
            { RedirectStandardOutput = true })!;
        return process.StandardOutput.ReadToEnd();
    }
}
