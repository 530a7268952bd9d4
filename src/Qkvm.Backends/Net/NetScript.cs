using System.ComponentModel;
using System.Diagnostics;
using Qkvm.Host;

namespace Qkvm.Backends.Net;

/// <summary>A network script failed: which, how, and what it said.</summary>
public sealed class NetScriptException(string message) : Exception(message);

/// <summary>Runs a user's script with an interface's name as its only argument.</summary>
static class NetScript
{
    // milliseconds for stderr to end after the script did
    const int LastWords = 1000;

    /// <summary>False for "no" and for an empty name.</summary>
    public static bool IsGiven(string script) => script is not ("" or "no");

    public static void Run(string script, string interfaceName)
    {
        if (Directory.Exists(script)) throw new NetScriptException($"network script {script} is a directory");
        if (!File.Exists(script)) throw new NetScriptException($"network script {script} does not exist");
        var start = new ProcessStartInfo(script) { UseShellExecute = false, RedirectStandardError = true };
        start.ArgumentList.Add(interfaceName);
        Process process;
        try
        {
            process = Programs.Start(start);
        }
        catch (Win32Exception e)
        {
            throw new NetScriptException($"network script {script} could not be started: "
                + $"{Programs.Reason(e)}{Advice(script, e.NativeErrorCode)}");
        }
        using (process)
        {
            Task<string> reading = process.StandardError.ReadToEndAsync();
            // not for stderr: a daemon that it left may keep that open
            process.WaitForExit(int.MaxValue);
            string said = reading.Wait(LastWords) ? reading.Result.Trim() : "";
            if (process.ExitCode != 0)
                throw new NetScriptException($"network script {script} failed with status {process.ExitCode}"
                    + (said == "" ? "" : $": {string.Join("; ", said.Split('\n', StringSplitOptions.TrimEntries))}"));
            if (said != "") Console.Error.WriteLine(said);
        }
    }

    static string Advice(string script, int errno) => errno switch
    {
        Libc.EAccess => $"; make it a program: chmod +x {script}",
        Libc.ENoEnt => "; its first line must name a program that exists, such as #!/bin/sh",
        Libc.ENoExec => "; its first line must name a program, such as #!/bin/sh",
        _ => "",
    };
}
