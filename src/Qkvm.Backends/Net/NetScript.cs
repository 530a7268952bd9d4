using System.ComponentModel;
using System.Diagnostics;

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
        if (!File.Exists(script)) throw new NetScriptException($"network script {script} does not exist");
        var start = new ProcessStartInfo(script) { UseShellExecute = false, RedirectStandardError = true };
        start.ArgumentList.Add(interfaceName);
        Process process;
        try
        {
            process = Process.Start(start) ?? throw new NetScriptException($"network script {script} did not start");
        }
        catch (Win32Exception e)
        {
            throw new NetScriptException($"network script {script} could not be started: {e.Message}");
        }
        using (process)
        {
            Task<string> reading = process.StandardError.ReadToEndAsync();
            // not for stderr: a daemon that it left may keep that open
            process.WaitForExit(int.MaxValue);
            string said = reading.Wait(LastWords) ? reading.Result.Trim() : "";
            if (process.ExitCode != 0)
                throw new NetScriptException($"network script {script} failed with status " +
                    $"{process.ExitCode}{(said == "" ? "" : $": {said}")}");
            if (said != "") Console.Error.WriteLine(said);
        }
    }
}
