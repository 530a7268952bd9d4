using System.Diagnostics;
using Qkvm.Testing;

namespace Qkvm.Storage.Tests;

/// <summary>Runs the reference image tools.</summary>
static class QemuTools
{
    public static string? Missing { get; } = Find("qemu-img") && Find("qemu-io") ? null
        : "qemu-img and qemu-io are not installed (Debian: qemu-utils)";

    public static string Img(params string[] arguments)
    {
        (int code, string output) = Run("qemu-img", arguments);
        Assert.True(code == 0, $"qemu-img {string.Join(' ', arguments)}: {code}\n{output}");
        return output;
    }

    public static string Io(string image, params string[] commands) => IoOf("qcow2", image, commands);

    public static string IoOf(string format, string image, params string[] commands)
    {
        (int code, string output) =
            Run("qemu-io", [.. commands.SelectMany(c => new[] { "-c", c }), "-f", format, image]);
        Assert.True(code == 0, $"qemu-io {image}: {code}\n{output}");
        return output;
    }

    /// <summary>Runs a program to its end; once more where it could not tell how fast this processor derives keys,
    /// which a busy machine does not let it.</summary>
    public static (int Code, string Output) Run(string program, params string[] arguments)
    {
        const int tries = 10;
        (int Code, string Output) outcome = RunOnce(program, arguments);
        for (int i = 1; i < tries && outcome.Output.Contains("accurate CPU usage", StringComparison.Ordinal); i++)
            outcome = RunOnce(program, arguments);
        return outcome;
    }

    static (int Code, string Output) RunOnce(string program, string[] arguments)
    {
        using Process process = Start(program, arguments);
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output + errors.Result);
    }

    public static Process Start(string program, params string[] arguments) =>
        Process.Start(new ProcessStartInfo(program, arguments)
    {
        RedirectStandardInput = true,
        RedirectStandardOutput = true,
        RedirectStandardError = true,
    })!;

    static bool Find(string program) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':')
            .Any(directory => File.Exists(Path.Combine(directory, program)));
}

/// <summary>A test that needs the reference tools.</summary>
sealed class QemuFactAttribute() : ConditionalFactAttribute(QemuTools.Missing);

sealed class QemuTheoryAttribute : TheoryAttribute
{
    public QemuTheoryAttribute() => Skip = QemuTools.Missing;
}
