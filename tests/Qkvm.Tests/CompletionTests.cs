using System.Diagnostics;
using Qkvm.Completion;

namespace Qkvm.Tests;

/// <summary>What shells are answered, and what bash makes of it.</summary>
public sealed class CompletionTests
{
    static string[] Answer(string line) => [.. Completion.Completion.Answer(line.Split(' '))];

    [Theory]
    [InlineData("-mach", "-machine")]
    [InlineData("-machine micro", "microvm")]
    [InlineData("-M q35,smm=o", "q35,smm=off q35,smm=on")]
    [InlineData("--accel k", "kvm")]
    [InlineData("-device virtio-rng-pci-n", "virtio-rng-pci-non-transitional")]
    [InlineData("-device driver=isa-debugc", "driver=isa-debugcon")]
    [InlineData("-device virtio-net-pci,netd", "virtio-net-pci,netdev=")]
    [InlineData("-device virtio-net-pci,netdev=a,netd", "")]
    [InlineData("-netdev tap,id=lan -netdev user,id=wan -device e1000,netdev=", "e1000,netdev=lan e1000,netdev=wan")]
    [InlineData("-drive id=a,file=x -blockdev raw,node-name=b -device ide-hd,drive=",
        "ide-hd,drive=a ide-hd,drive=b")]
    [InlineData("-display vn", "vnc")]
    [InlineData("-vga s", "std")]
    [InlineData("-d guest", "guest_errors")]
    [InlineData("-d int,guest", "int,guest_errors")]
    [InlineData("-action panic=", "panic=none panic=pause panic=shutdown")]
    [InlineData("-smp 2,maxc", "2,maxcpus=")]
    [InlineData("-kernel ", ":files ")]
    [InlineData("-drive if=virtio,file=", ":files if=virtio,file=")]
    [InlineData("-object memory-backend-file,mem-path=/de", ":files memory-backend-file,mem-path=")]
    [InlineData("img conv", "convert")]
    [InlineData("img convert -f qco", "qcow2")]
    [InlineData("img info --outp", "--output")]
    [InlineData("img info --output ", "human json")]
    [InlineData("img info ", ":files ")]
    [InlineData("doctor --", "--json")]
    [InlineData("completion z", "zsh")]
    public void Command_lines_are_completed_from_the_catalogues(string line, string expected)
    {
        string[] all = expected.Length == 0 ? [] : expected.StartsWith(':') ? [expected] : expected.Split(' ');
        Assert.Equal(all, Answer(line));
    }

    [Fact]
    public void The_first_word_is_a_tool_or_a_disk() =>
        Assert.Equal(["img", "nbd", "doctor", "completion", "man", ":files "], Answer(""));

    [Fact]
    public void What_is_not_built_is_not_proposed()
    {
        Assert.DoesNotContain("-loadvm", Answer("-l"));
        Assert.DoesNotContain("cirrus-vga", Answer("-device c"));
    }

    [Theory]
    [InlineData("-drive if=virtio,file=", "di", "if=virtio,file=", "disk.img disk.qcow2")]
    [InlineData("", "disk.q", "", "disk.qcow2")]
    public void Bash_adds_names_of_files(string before, string name, string head, string expected)
    {
        string directory = Directory.CreateTempSubdirectory("qkvm-completion-").FullName;
        foreach (string file in (string[])["disk.img", "disk.qcow2", "other"])
            File.WriteAllText(Path.Combine(directory, file), "");
        string line = $"qkvm {before}{name}";
        Assert.Equal(expected, Bash(directory, line, $":files {head}"));
        Directory.Delete(directory, recursive: true);
    }

    [Theory]
    [InlineData("qkvm -device virtio-net-pci,netdev=", "virtio-net-pci,netdev=lan", "lan")]
    [InlineData("qkvm -mach", "-machine", "-machine")]
    public void Bash_gets_what_is_behind_its_own_break(string line, string answer, string expected) =>
        Assert.Equal(expected, Bash("/", line, answer));

    /// <summary>What bash would complete, with an answer instead of the program's.</summary>
    static string Bash(string directory, string line, string answer)
    {
        string script = $"{Shells.Bash}\nqkvm() {{ printf '%s\\n' \"$ANSWER\"; }}\nCOMP_POINT=${{#COMP_LINE}}\n"
            + "_qkvm 2>/dev/null\nprintf '%s\\n' \"${COMPREPLY[@]}\" | sort\n";
        var start = new ProcessStartInfo("bash", ["-c", script])
        {
            WorkingDirectory = directory, RedirectStandardOutput = true,
            Environment = { ["ANSWER"] = answer, ["COMP_LINE"] = line, ["LC_ALL"] = "C" },
        };
        using Process bash = Process.Start(start)!;
        return bash.StandardOutput.ReadToEnd().Trim().ReplaceLineEndings(" ");
    }
}
