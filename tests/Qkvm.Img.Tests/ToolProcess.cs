using System.Diagnostics;
using Qkvm.Testing;

namespace Qkvm.Img.Tests;

/// <summary>The tool as a process of its own, with a conversion slow enough to be met on its way.</summary>
static class ToolProcess
{
    public static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    static string Program => Path.Combine(AppContext.BaseDirectory, "qkvm.dll");

    public static Process Start(params string[] words) => Run("dotnet", [Program, "img", .. words]);

    /// <summary>Its output is a terminal, whose text is what the process gives.</summary>
    public static Process StartOnTerminal(params string[] words) =>
        Run("script", ["-qec", string.Join(' ', [$"dotnet {Program} img", .. words]), "/dev/null"]);

    /// <summary>Writes data, and no zeros.</summary>
    public static void MakeSource(string path, int mebibytes)
    {
        using FileStream file = File.Create(path);
        var data = new byte[1 << 20];
        Array.Fill(data, (byte)1);
        for (int i = 0; i < mebibytes; i++) file.Write(data);
    }

    /// <summary>Waits until the image that it makes has its size.</summary>
    public static void AwaitBegin(Process process, string target, long size)
    {
        string part = target + ".part";
        var clock = Stopwatch.StartNew();
        while (!(File.Exists(part) && new FileInfo(part).Length == size) && !process.HasExited
            && clock.Elapsed < Patience) Thread.Sleep(10);
        Assert.False(process.HasExited, "it ends before anything is written");
    }

    static Process Run(string program, string[] words) => Process.Start(new ProcessStartInfo(program, words)
    {
        RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true,
    })!;
}
