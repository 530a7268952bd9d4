using Qkvm.Control.Hmp;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>info numa: each node with the processors that run, and its memory.</summary>
static class NumaNodes
{
    public static readonly Command Command = new HumanCommand("info numa", "", "show NUMA information",
        static (monitor, words) =>
        {
            words.End();
            IMachine machine = monitor.Context.Machine;
            NumaConfig numa = machine.Config.Numa;
            monitor.Write($"{numa.Nodes.Count} nodes\n");
            for (int node = 0; node < numa.Nodes.Count; node++)
            {
                long plugged = QueryMemoryDevices.Plugged(monitor.Context, node);
                string cpus = string.Concat(machine.Cpus.Where(cpu => numa.NodeOf(cpu.Index) == node)
                    .Select(cpu => $" {cpu.Index}"));
                monitor.Write($"node {node} cpus:{cpus}\n"
                    + $"node {node} size: {(long)numa.Nodes[node].Size + plugged >> 20} MB\n"
                    + $"node {node} plugged: {plugged >> 20} MB\n");
            }
        });
}
