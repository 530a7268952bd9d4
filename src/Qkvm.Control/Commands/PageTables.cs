using System.Buffers.Binary;
using Qkvm.Core.Accel;
using Qkvm.Core.Memory;

namespace Qkvm.Control.Commands;

/// <summary>A page that is mapped.</summary>
/// <param name="Linear">Its first address.</param>
/// <param name="Size">Bytes.</param>
/// <param name="Entry">What maps it.</param>
/// <param name="Rights">The bits <see cref="PageTables.Present"/>, <see cref="PageTables.Writable"/> and
/// <see cref="PageTables.User"/> that all tables above it leave it.</param>
readonly record struct MappedPage(ulong Linear, ulong Size, ulong Entry, ulong Rights);

/// <summary>What a processor's page tables map, in the order of addresses. Intel SDM vol. 3, chapter 4.</summary>
static class PageTables
{
    public const ulong Present = 1, Writable = 2, User = 4, WriteThrough = 8, CacheDisable = 0x10, Accessed = 0x20,
        Dirty = 0x40, Large = 0x80, Global = 0x100, NoExecute = 1UL << 63, AddressBits = 0xFFFFFFFFFF000;

    const ulong Paging = 1UL << 31, LargePages32 = 1 << 4, PhysicalExtension = 1 << 5, FiveLevels = 1 << 12;
    const ulong AllRights = Present | Writable | User;
    const int TableBytes = 4096, PageShift = 12;

    // tables can lead to themselves and map without end
    const int MostTables = 1 << 17;

    public static bool IsPaging(CpuRegisters registers) => (registers.Cr0 & Paging) != 0;

    public static IEnumerable<MappedPage> Walk(AddressSpace memory, CpuRegisters registers)
    {
        bool isLong = registers.IsLongMode, isExtended = isLong || (registers.Cr4 & PhysicalExtension) != 0;
        int levels = !isExtended ? 2 : !isLong ? 3 : (registers.Cr4 & FiveLevels) != 0 ? 5 : 4;
        var walk = new Walker(memory, isExtended ? 8 : 4, levels,
            isExtended || (registers.Cr4 & LargePages32) != 0);
        ulong root = registers.Cr3 & (isLong ? AddressBits : isExtended ? 0xFFFFFFE0UL : 0xFFFFF000UL);
        return walk.Table(root, levels, 0, AllRights);
    }

    sealed class Walker(AddressSpace memory, int entryBytes, int levels, bool hasLarge)
    {
        int _tables;

        public IEnumerable<MappedPage> Table(ulong at, int level, ulong linear, ulong rights)
        {
            if (_tables++ >= MostTables) yield break;
            int bits = entryBytes == 4 ? 10 : 9, shift = PageShift + (level - 1) * bits;
            bool isPointers = levels == 3 && level == 3;           // four entries without rights
            var table = new byte[isPointers ? 4 * entryBytes : TableBytes];
            memory.Read(at, table);
            for (int i = 0; i < table.Length / entryBytes; i++)
            {
                ulong entry = entryBytes == 4 ? BinaryPrimitives.ReadUInt32LittleEndian(table.AsSpan(i * 4))
                    : BinaryPrimitives.ReadUInt64LittleEndian(table.AsSpan(i * 8));
                if ((entry & Present) == 0) continue;
                ulong here = Canonical(linear | (ulong)i << shift), left = isPointers ? rights : rights & entry;
                if (level == 1 || hasLarge && !isPointers && level <= 3 && (entry & Large) != 0)
                    yield return new MappedPage(here, 1UL << shift, entry, left);
                else
                    foreach (MappedPage page in Table(entry & AddressBits, level - 1, here, left)) yield return page;
            }
        }

        ulong Canonical(ulong linear) => levels switch
        {
            4 => (ulong)((long)(linear << 16) >> 16),
            5 => (ulong)((long)(linear << 7) >> 7),
            _ => linear,
        };
    }
}
