using System.Net.Sockets;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Qkvm.Guest.Tests.Network;

/// <summary>A network without a way out, and an /etc of its own, where tests say what programs find; gone
/// afterwards.</summary>
sealed partial class NetworkNamespace : IDisposable
{
    static readonly string s_scripts = Path.Combine(Surroundings.Root, "scripts");

    readonly ScratchDirectory _files = new();
    readonly GuestProcess _holder;
    readonly List<GuestProcess> _servers = [];

    public NetworkNamespace()
    {
        string etc = Directory.CreateDirectory(_files["etc"]).FullName;
        // It ends with this process, whose end of the pipe is then closed.
        _holder = GuestProcess.StartOther("unshare", "-n", "-m", "sh", "-c",
            $"cp -a /etc/. {etc} && mount --bind {etc} /etc && ip link set lo up && echo ready && exec cat");
        _holder.Expect("ready");
    }

    /// <summary>A file outside of /etc.</summary>
    public string this[string name] => _files[name];

    /// <summary>The scripts that come with the program where it looks for them; /etc/log has what ran.</summary>
    public void InstallScripts()
    {
        foreach (string name in (string[])["qemu-ifup", "qemu-ifdown"])
            WriteScript(name, $"echo {name} $1 >>{_files["etc/log"]}\nexec {s_scripts}/{name} \"$@\"");
    }

    public string Log => File.ReadAllText(_files["etc/log"]);

    /// <summary>A file of /etc.</summary>
    public string Write(string name, string contents) =>
        _files.Write($"etc/{name}", System.Text.Encoding.UTF8.GetBytes(contents));

    /// <summary>A script of /etc.</summary>
    /// <returns>Its path for programs inside.</returns>
    public string WriteScript(string name, string contents)
    {
        File.Delete(_files[$"etc/{name}"]);                        // which may be a link to somewhere else
        Write(name, $"#!/bin/sh\n{contents}\n");
        Run($"chmod +x /etc/{name}");
        return $"/etc/{name}";
    }

    /// <summary>Runs a shell's line inside, which must succeed.</summary>
    /// <returns>What it printed.</returns>
    public string Run(string line)
    {
        using GuestProcess shell = Start("sh", "-c", line);
        int code = shell.WaitExit();
        Assert.True(code == 0, $"{line}: {code}\n{shell.Output}\n{shell.Errors}");
        return shell.Output;
    }

    /// <summary>A program inside.</summary>
    public GuestProcess Start(string program, params string[] arguments) =>
        GuestProcess.StartOther("nsenter", ["-t", $"{_holder.Id}", "-n", "-m", program, .. arguments]);

    /// <summary>One that ends with the network.</summary>
    public GuestProcess Serve(string program, params string[] arguments)
    {
        GuestProcess server = Start(program, arguments);
        _servers.Add(server);
        return server;
    }

    /// <summary>A listener inside, of this process, at all addresses.</summary>
    public TcpListener Listen(int port)
    {
        TcpListener? listener = null;
        int failed = 0;
        var thread = new Thread(() =>
        {
            using SafeFileHandle network = File.OpenHandle($"/proc/{_holder.Id}/ns/net");
            failed = setns((int)network.DangerousGetHandle(), 0);
            if (failed != 0) return;
            listener = TcpListener.Create(port);
            listener.Start(512);
        });
        thread.Start();                                            // a thread of its own, which stays inside
        thread.Join();
        return listener ?? throw new InvalidOperationException($"setns: {failed}");
    }

    public void Dispose()
    {
        foreach (GuestProcess server in _servers) server.Dispose();
        _holder.Dispose();
        _files.Dispose();
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int setns(int fd, int kind);
}
