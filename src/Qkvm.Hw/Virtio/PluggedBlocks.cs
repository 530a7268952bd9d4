using Qkvm.Core.State;

namespace Qkvm.Hw.Virtio;

/// <summary>VIRTIO_MEM_STATE_…: of all blocks of a range. Virtio 1.2, section 5.15.6.</summary>
enum BlockState : ushort { Plugged, Unplugged, Mixed }

/// <summary>Which blocks of a memory device are plugged.</summary>
sealed class PluggedBlocks(int count)
{
    const int InByte = 8;

    readonly byte[] _bits = new byte[(count + InByte - 1) / InByte];

    /// <summary>Of those that are plugged.</summary>
    public int Count { get; private set; }

    /// <param name="length">At least one.</param>
    public BlockState StateOf(int first, int length)
    {
        bool some = this[first];
        for (int block = first + 1; block < first + length; block++)
            if (this[block] != some) return BlockState.Mixed;
        return some ? BlockState.Plugged : BlockState.Unplugged;
    }

    /// <summary>They are in the other state.</summary>
    public void Set(int first, int length, bool isPlugged)
    {
        for (int block = first; block < first + length; block++) _bits[block / InByte] ^= (byte)(1 << block % InByte);
        Count += isPlugged ? length : -length;
    }

    public void Clear()
    {
        Array.Clear(_bits);
        Count = 0;
    }

    public void Exchange(StateStream state)
    {
        state.Block("blocks", _bits);
        int plugged = 0;
        for (int block = 0; block < _bits.Length * InByte; block++)
        {
            if (!this[block]) continue;
            if (block >= count) throw state.Refuse("blocks", $"block {block} of {count}");
            plugged++;
        }
        Count = plugged;
    }

    bool this[int block] => (_bits[block / InByte] >> block % InByte & 1) != 0;
}
