using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Core.Pci;

/// <summary>Message signalled interrupts, extended. PCI Local Bus 3.0, section 6.8.2. The device maps
/// <see cref="TableRegion"/> and <see cref="PendingRegion"/> into a BAR at the offsets it gave.</summary>
public sealed class MsiX : IRegisterBank
{
    const byte CapabilityId = 0x11;
    const int MessageControl = 2, TableOffset = 4, PendingOffset = 8, EntrySize = 16, VectorControl = 12;
    const ushort Enable = 0x8000, FunctionMask = 0x4000;

    readonly PciDevice _device;
    // table and pending bits: queues look from their own threads
    readonly Lock _sync = new();
    readonly byte[] _table;
    readonly byte[] _pending;
    readonly int _capability;

    /// <param name="vectors">1 to 2048.</param>
    /// <param name="at">Where the capability goes; 0 for the next free place.</param>
    public MsiX(PciDevice device, int vectors, int bar, uint tableOffset, uint pendingOffset, int at = 0)
    {
        _device = device;
        _table = new byte[vectors * EntrySize];
        _pending = new byte[(vectors + 63) / 64 * 8];
        _capability = device.Config.AddCapability(CapabilityId, 12, at);
        device.Config.Define16(_capability + MessageControl, (ushort)(vectors - 1), Enable | FunctionMask);
        device.Config.Define32(_capability + TableOffset, tableOffset | (uint)bar);
        device.Config.Define32(_capability + PendingOffset, pendingOffset | (uint)bar);
        TableRegion = MemoryRegion.Io($"{device.Name}.msix-table", (ulong)_table.Length, this, AccessSizes.UpToQword);
        PendingRegion = MemoryRegion.Io($"{device.Name}.msix-pba", (ulong)_pending.Length, new PendingBits(_pending),
            AccessSizes.UpToQword);
        Reset();
    }

    public MemoryRegion TableRegion { get; }
    public MemoryRegion PendingRegion { get; }
    public int Vectors => _table.Length / EntrySize;
    public bool IsEnabled => (Control & Enable) != 0;

    ushort Control => _device.Config.Get16(_capability + MessageControl);

    /// <summary>Sends a vector's message, or remembers it while masked. Does nothing for a vector that does not
    /// exist.</summary>
    public void Notify(int vector)
    {
        lock (_sync)
            if (!Unmasked(vector)) return;
        _device.MsiTarget.Send(Number(vector * EntrySize, 8), (uint)Number(vector * EntrySize + 8, 4));
    }

    /// <summary>As <see cref="Notify"/>, from any thread. False for a message that needs the machine lock: nothing has
    /// happened then.</summary>
    public bool TryPost(int vector)
    {
        // over the sending: after a guest's mask nothing comes
        lock (_sync)
            return !Unmasked(vector)
                || _device.MsiTarget.TryPost(Number(vector * EntrySize, 8), (uint)Number(vector * EntrySize + 8, 4));
    }

    public ulong Read(ulong offset, int size) => Number((int)offset, size);

    public void Write(ulong offset, int size, ulong value)
    {
        lock (_sync)
            for (int i = 0; i < size; i++) _table[(int)offset + i] = (byte)(value >> (i * 8));
        SendUnmasked((int)offset / EntrySize);
    }

    internal void ConfigWritten()
    {
        for (int vector = 0; vector < Vectors; vector++) SendUnmasked(vector);
    }

    internal void Reset()
    {
        Array.Clear(_table);
        Array.Clear(_pending);
        for (int vector = 0; vector < Vectors; vector++) _table[vector * EntrySize + VectorControl] = 1;
    }

    internal void Exchange(StateStream state)
    {
        state.Block("table", _table);
        state.Block("pending", _pending);
    }

    /// <summary>Whether the message can go now; a masked one is remembered.</summary>
    bool Unmasked(int vector)
    {
        if (!IsEnabled || (uint)vector >= (uint)Vectors) return false;
        if (!IsMasked(vector)) return true;
        _pending[vector >> 3] |= (byte)(1 << (vector & 7));
        return false;
    }

    bool IsMasked(int vector) => (Control & FunctionMask) != 0 || (_table[vector * EntrySize + VectorControl] & 1) != 0;

    void SendUnmasked(int vector)
    {
        byte bit = (byte)(1 << (vector & 7));
        lock (_sync)
        {
            if ((_pending[vector >> 3] & bit) == 0 || !IsEnabled || IsMasked(vector)) return;
            _pending[vector >> 3] &= (byte)~bit;
        }
        Notify(vector);
    }

    ulong Number(int at, int size)
    {
        ulong value = 0;
        for (int i = 0; i < size && at + i < _table.Length; i++) value |= (ulong)_table[at + i] << (i * 8);
        return value;
    }

    sealed class PendingBits(byte[] bits) : IRegisterBank
    {
        public ulong Read(ulong offset, int size)
        {
            ulong value = 0;
            for (int i = 0; i < size && (int)offset + i < bits.Length; i++)
                value |= (ulong)bits[(int)offset + i] << (i * 8);
            return value;
        }

        public void Write(ulong offset, int size, ulong value) { } // read-only
    }
}
