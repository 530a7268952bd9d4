using System.Text.Json.Serialization;
using Qkvm.Core.Machine;

namespace Qkvm.Core.Net;

/// <summary>What a card lets through of one kind of frames: those it lists, none, or all.</summary>
[JsonConverter(typeof(NamedEnum<FilterState>))]
public enum FilterState { Normal, None, All }

/// <summary>Which frames a card passes to its guest, as query-rx-filter tells it.</summary>
/// <param name="UnicastOverflow">The guest gave more addresses than the table holds: all pass.</param>
/// <param name="MainMac">"52:54:00:12:34:56".</param>
/// <param name="VlanTable">Numbers of VLANs.</param>
public sealed record ReceiveFilter(bool Promiscuous, FilterState Multicast, FilterState Unicast, FilterState Vlan,
    bool BroadcastAllowed, bool MulticastOverflow, bool UnicastOverflow, string MainMac, IReadOnlyList<int> VlanTable,
    IReadOnlyList<string> UnicastTable, IReadOnlyList<string> MulticastTable);
