using System.Diagnostics;
using Qkvm.Testing;

namespace Qkvm.Img.Tests;

/// <summary>What a command said and how it ended.</summary>
sealed record Outcome(int Code, string Output, string Errors);

/// <summary>Runs the reference tools.</summary>
static class QemuTools
{
    /// <summary>The version whose words the command lines are compared with.</summary>
    const string Version = "7.2.";

    static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    public static string? Missing { get; } = WhyNot();

    /// <summary>Runs a program to its end; once more where it could not tell how fast this processor derives keys,
    /// which a busy machine does not let it.</summary>
    public static Outcome Run(string directory, string program, params string[] arguments)
    {
        const int tries = 10;
        Outcome outcome = RunOnce(directory, program, arguments);
        for (int i = 1; i < tries && outcome.Errors.Contains("accurate CPU usage", StringComparison.Ordinal); i++)
            outcome = RunOnce(directory, program, arguments);
        return outcome;
    }

    static Outcome RunOnce(string directory, string program, string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments)
        {
            WorkingDirectory = directory, RedirectStandardInput = true, RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        Assert.True(process.WaitForExit(Patience), $"{program} {string.Join(' ', arguments)} does not end");
        return new Outcome(process.ExitCode, output, errors.Result);
    }

    static string? WhyNot()
    {
        const string package = "(Debian: qemu-utils)";
        try
        {
            string version = Run("/", "qemu-img", "--version").Output;
            return version.Contains($"version {Version}", StringComparison.Ordinal) ? null
                : $"needs qemu-img {Version}x {package}, whose words these are";
        }
        catch (System.ComponentModel.Win32Exception) { return $"needs qemu-img {package}"; }
    }
}

/// <summary>A test that needs the reference tools.</summary>
sealed class QemuTheoryAttribute() : ConditionalTheoryAttribute(QemuTools.Missing);

/// <summary>A test that needs the reference tools.</summary>
sealed class QemuFactAttribute() : ConditionalFactAttribute(QemuTools.Missing);
