using Qkvm.Backends.Audio;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Cli;

/// <summary>What -audio model= stands for.</summary>
/// <param name="Devices">The controller first; the last one plays.</param>
sealed record SoundCard(string Name, params DeviceModel[] Devices);

public sealed partial class Expander
{
    /// <summary>Of -audio, unless it says another.</summary>
    const string DefaultAudiodev = "audiodev0";

    (SoundCard Card, string Audiodev, string Owner)? _soundCard;

    void AddAudiodev(string text, string owner) => AddAudiodev(Options.Parse(text, owner, "driver"));

    void AddAudiodev(Options options)
    {
        string driver = Catalogue.Audiodevs.Known(options.Text("driver") ?? "", options.Owner).Name;
        string id = options.Required("id");
        Identifier.Check(id, options.Owner);
        if (FindAudiodev(id) != null) throw options.Error($"there is an audiodev '{id}' already");
        _config = _config with { Audiodevs = [.. _config.Audiodevs, new AudioConfig(id, driver, options)] };
    }

    /// <summary>An audiodev and a card that plays to it.</summary>
    void TakeAudio(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "driver");
        SoundCard[] cards = Catalogue.SoundCards;
        string names = string.Join(", ", cards.Select(card => card.Name));
        string model = options.Text("model") ?? throw options.Error($"Parameter 'model' is missing: one of {names}");
        if (Catalogue.MissingSoundCards.Contains(model))
            throw options.Error($"model={model} is not built yet; there are {names}");
        SoundCard card = Array.Find(cards, card => card.Name == model) ?? throw options.Error("Unknown sound card name "
            + $"'{model}'{Suggestion.For(model, cards.Select(card => card.Name))}; there are {names}");
        if (_soundCard != null) throw options.Error("only one -audio option is allowed; use -audiodev and -device");
        if (!options.Has("id")) options.Add("id", DefaultAudiodev);
        AddAudiodev(options);
        _soundCard = (card, _config.Audiodevs[^1].Id, owner);
    }

    AudioConfig? FindAudiodev(string id) => _config.Audiodevs.FirstOrDefault(audiodev => audiodev.Id == id);

    /// <summary>Of a display.</summary>
    void CheckAudiodev(string id, string owner)
    {
        if (FindAudiodev(id) is not { } audiodev)
            throw new ConfigurationException($"{owner}: audiodev '{id}' not found; leave it out, or give -audiodev "
                + $"none,id={id}");
        if (audiodev.Driver != NoneAudio.Model.Name) _warn($"{owner}: viewers do not hear audiodev '{id}' yet");
    }

    void FinishSound()
    {
        if (_soundCard is not var (card, audiodev, owner)) return;
        foreach (DeviceModel device in card.Devices)
            _devices.Insert(_onBoard++, new DeviceConfig(device.Name, null,
                device == card.Devices[^1] ? [new("audiodev", audiodev)] : [], owner));
    }
}
