using System.Runtime.CompilerServices;
using Xunit;

namespace Qkvm.Testing;

/// <summary>A stand-in with the call shape and the file names of Verify.Xunit, whose core package cannot be restored:
/// compares a text with <c>Class.Method.verified.txt</c> beside the test. A difference leaves <c>.received.txt</c>;
/// accept it by renaming it, or all at once by running the tests with QKVM_ACCEPT=1.</summary>
public static class Verifier
{
    public static Task Verify(string text, string? parameters = null, [CallerFilePath] string file = "",
        [CallerMemberName] string method = "")
    {
        string stem =
            Path.Combine(Path.GetDirectoryName(file)!,
            $"{Path.GetFileNameWithoutExtension(file)}.{method}{(parameters == null ? "" : $"_{parameters}")}");
        string verified = $"{stem}.verified.txt", received = $"{stem}.received.txt";
        text = text.ReplaceLineEndings("\n").TrimEnd('\n');
        string? expected = File.Exists(verified) ? File.ReadAllText(verified).ReplaceLineEndings("\n").TrimEnd('\n')
            : null;
        if (text == expected)
        {
            File.Delete(received);
            return Task.CompletedTask;
        }
        if (Environment.GetEnvironmentVariable("QKVM_ACCEPT") == "1")
        {
            File.WriteAllText(verified, text);
            return Task.CompletedTask;
        }
        File.WriteAllText(received, text);
        Assert.Fail(expected == null ? $"{Path.GetFileName(verified)} does not exist; received:\n{text}"
            : $"differs from {Path.GetFileName(verified)}; received:\n{text}");
        return Task.CompletedTask;
    }
}
