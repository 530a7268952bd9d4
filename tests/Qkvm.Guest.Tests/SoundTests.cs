using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Guest.Tests;

/// <summary>Linux plays a tone to each card, and the file has it.</summary>
public sealed class SoundTests
{
    const int Hertz = 440, Rate = 8000, Terminate = 15;

    [CardsTheory]
    [InlineData("AC97,audiodev=a", false)] [InlineData("ES1370,audiodev=a", true)]
    [InlineData("intel-hda -device hda-duplex,audiodev=a,mixer=off", false)]
    [InlineData("ich9-intel-hda,msi=off -device hda-micro,audiodev=a,mixer=off", true)]
    public void A_tone_that_Linux_plays_is_in_the_file(string card, bool isTerminated)
    {
        using var directory = new ScratchDirectory();
        string file = directory["sound.wav"];
        using GuestProcess guest = GuestProcess.Start(["-accel", "tcg", "-m", "256M", "-nodefaults", "-display", "none",
            "-serial", "stdio", "-no-reboot", "-audiodev", $"wav,id=a,path={file}",
            "-kernel", Surroundings.CardsKernel, "-initrd", Surroundings.CardsSmallInitrd,
            "-append", "console=ttyS0 quiet panic=-1", .. $"-device {card}".Split(' ')]);
        guest.Expect("TINY READY");
        // /dev/dsp takes 8000 bytes a second until somebody asks for something else; eleven waves are 200 of them
        string waves = string.Concat(Enumerable.Range(0, 200).Select(i =>
            $"\\{Convert.ToString(128 + (int)(100 * Math.Sin(i * 2 * Math.PI * Hertz / Rate)), 8)}"));
        guest.Send("modprobe snd-pcm-oss; while [ ! -e /dev/dsp ]; do sleep 0.1; done\n");
        guest.Send("stty -echo; echo QUIET $((2 + 2))\n");
        guest.Expect("QUIET 4");
        // the mixer of AC97, which begins mute, at its ports: master and PCM Out
        guest.Send("for d in /sys/bus/pci/devices/*; do [ $(cat $d/device) = 0x2415 ] && read nam rest <$d/resource "
            + "&& for r in 2 3 24 25; do printf '\\0' | dd of=/dev/port bs=1 seek=$((nam + r)) 2>/dev/null; "
            + "done; done\n");
        foreach (string part in waves.Split('\\', StringSplitOptions.RemoveEmptyEntries).Chunk(20)
            .Select(chunk => string.Concat(chunk.Select(octal => $"\\{octal}"))))
            guest.Send($"printf '{part}' >>/tmp/waves\n");
        guest.Send("for i in $(seq 120); do cat /tmp/waves; done >/dev/dsp; echo; echo PLAYED $((1 + 1))\n");
        Assert.Equal("2", guest.Value("PLAYED", @"\d"));
        if (isTerminated) guest.Signal(Terminate);
        else guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
        byte[] sound = File.ReadAllBytes(file);
        Assert.Equal("RIFF", Encoding.ASCII.GetString(sound, 0, 4));
        Assert.Equal(sound.Length - 8, BinaryPrimitives.ReadInt32LittleEndian(sound.AsSpan(4)));
        Assert.Equal(sound.Length - 44, BinaryPrimitives.ReadInt32LittleEndian(sound.AsSpan(40)));
        short[] left = [.. sound.Skip(44).Chunk(4).Select(frame => BinaryPrimitives.ReadInt16LittleEndian(frame))];
        short[] played = [.. left.SkipWhile(sample => Math.Abs((int)sample) < 1000).Skip(4410).Take(44100)];
        Assert.Equal(44100, played.Length);
        Assert.InRange(Enumerable.Range(20, 380).MaxBy(i => Power(played, i * 5)) * 5, Hertz - 5, Hertz + 5);
    }

    /// <summary>Of one frequency, by Goertzel's algorithm.</summary>
    static double Power(short[] samples, int hertz)
    {
        double factor = 2 * Math.Cos(2 * Math.PI * hertz / 44100), before = 0, last = 0;
        foreach (short sample in samples) (before, last) = (last, sample + factor * last - before);
        return last * last + before * before - factor * last * before;
    }
}
