using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Net;

namespace Qkvm.Control.Commands;

/// <param name="Initial">Milliseconds after the first announcement.</param>
/// <param name="Max">Milliseconds between two at most.</param>
/// <param name="Rounds">Announcements; one is made in any case.</param>
/// <param name="Step">Milliseconds that each interval is longer.</param>
/// <param name="Interfaces">Names of cards, as `info network` shows them; null: all.</param>
/// <param name="Id">Announcements of one id end when others of it begin.</param>
public sealed record AnnounceArguments(long Initial, long Max, long Rounds, long Step,
    IReadOnlyList<string>? Interfaces = null, string? Id = null);

/// <summary>announce-self: cards tell switches where they are, by a RARP frame of their own and by what their drivers
/// send when asked (VIRTIO_NET_F_GUEST_ANNOUNCE).</summary>
static class AnnounceSelf
{
    public static readonly Command Command = new Command<AnnounceArguments, Nothing>("announce-self",
        AnnounceJson.Default, (context, arguments) =>
        {
            string id = arguments.Id ?? "";
            Dictionary<string, IDisposable> running = context.Backends.Announcements;
            if (running.Remove(id, out IDisposable? old)) old.Dispose();
            if (arguments.Rounds <= 1) Announce(context, arguments.Interfaces);
            else running[id] = new Rounds(context, arguments);
            return Nothing.Value;
        })
    {
        Human = new("announce_self", "[interfaces] [id]", "Trigger GARP/RARP announcements", Read),
    };

    /// <summary>With the numbers that QEMU's migration begins with.</summary>
    static AnnounceArguments Read(MonitorArguments words)
    {
        string? interfaces = words.Optional();
        return new(50, 550, 5, 100, interfaces?.Split(','), words.Optional());
    }

    static void Announce(CommandContext context, IReadOnlyList<string>? interfaces)
    {
        foreach ((string name, _, INetCard card) in Network.CardsOf(context))
            if (interfaces == null || interfaces.Contains(name)) card.Announce();
    }

    /// <summary>The first now, the others later, on the main loop under the machine lock.</summary>
    sealed class Rounds : IDisposable
    {
        readonly CommandContext _context;
        readonly AnnounceArguments _arguments;
        readonly ITimer _timer;
        long _done;
        bool _isOver;

        public Rounds(CommandContext context, AnnounceArguments arguments)
        {
            (_context, _arguments) = (context, arguments);
            _timer = TimeProvider.System.CreateTimer(_ => context.Machine.Board.Post(Next), null,
                Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            Next();
        }

        public void Dispose()
        {
            _isOver = true;
            _timer.Dispose();
        }

        void Next()
        {
            if (_isOver) return;
            Announce(_context, _arguments.Interfaces);
            if (++_done >= _arguments.Rounds)
            {
                Dispose();
                return;
            }
            long longest = Math.Clamp(_arguments.Max, 0, int.MaxValue);
            var delay = (Int128)_arguments.Initial + (Int128)(_done - 1) * _arguments.Step;
            long wait = (long)Int128.Clamp(delay, 0, longest);
            _timer.Change(TimeSpan.FromMilliseconds(wait), Timeout.InfiniteTimeSpan);
        }
    }
}

[JsonSerializable(typeof(AnnounceArguments))]
sealed partial class AnnounceJson : JsonSerializerContext;
