namespace Qkvm.Core.Block;

/// <summary>A drive with a tray for its medium, which has a lock and moves by motor.</summary>
public interface ITray : IRemovable
{
    bool IsTrayOpen { get; }

    /// <summary>The guest holds the tray shut.</summary>
    bool IsLocked { get; }

    /// <summary>The user presses the eject button: a guest that locked the tray is asked for it.</summary>
    void RequestEject();

    /// <summary>The tray moves, whatever the guest says; nothing happens where it is there already.</summary>
    void MoveTray(bool open);

    /// <summary>It has moved: whether it is open. Of the guest's doing, too.</summary>
    Action<bool>? TrayMoved { get; set; }
}
