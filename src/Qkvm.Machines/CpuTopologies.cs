using System.Numerics;
using Qkvm.Core.Machine;

namespace Qkvm.Machines;

/// <summary>APIC ids from the topology: a bit field each for thread, core, die and package. Spec: Intel SDM volume 3,
/// section
/// 9.9.1 "Hierarchical Mapping of Shared Resources".</summary>
public static class CpuTopologies
{
    public static uint ApicId(this CpuTopology topology, int index)
    {
        (int socket, int die, int core, int thread) = topology.PlaceOf(index);
        int id = socket << Width(topology.Dies) | die;
        id = id << Width(topology.Cores) | core;
        return (uint)(id << Width(topology.Threads) | thread);
    }

    static int Width(int count) => count <= 1 ? 0 : BitOperations.Log2((uint)count - 1) + 1;
}
