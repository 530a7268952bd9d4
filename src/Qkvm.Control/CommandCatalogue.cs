using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Qkvm.Control.Commands;

namespace Qkvm.Control;

/// <summary>All commands: a new one is one line here. Execution, help, completion, query-commands and the schema read
/// it.</summary>
public sealed class CommandCatalogue
{
    public static readonly Command[] All =
    [
        // The machine
        QueryStatus.Command, QueryVersion.Command, QueryName.Command, QueryUuid.Command, QueryKvm.Command,
        QueryStatistics.Command, QueryStatistics.Schemas,
        RunControl.Stop, RunControl.Continue, RunControl.Reset, RunControl.PowerDown, RunControl.Quit,
            RunControl.InjectNmi, RunControl.WakeUp, BootSet.Command, SingleStep.Command,
        NegotiateCapabilities.Command, HumanMonitorCommand.Command, QueryCommands.Command, QuerySchema.Command,
            HelpCommands.Help,
            HelpCommands.History, GdbServerCommand.Command,
        QueryMachines.Command, QueryHost.Target, QueryHost.Accelerators, QueryTpm.Models, QueryTpm.Types,
        QueryCommandLineOptions.Command, SetAction.Command, SetAction.Watchdog,
        QueryMigration.Query, QueryMigration.Capabilities, QueryMigration.SetCapabilities,
            MigrationSettings.Query, MigrationSettings.Set, MigrationSettings.SetOne,
        QomObjects.List, QomObjects.ListGet, QomObjects.Get, QomObjects.Set, QomObjects.Tree,
        QomTypeCommands.ListTypes, QomTypeCommands.DeviceProperties, QomTypeCommands.TypeProperties,

        // Processors and memory
        QueryCpus.Command, QueryCpus.Possible, QueryCpuModels.Definitions, QueryCpuModels.Expansion, SelectCpu.Command,
        Registers.Command, Jit.Command, Jit.Operations, Roms.Command, MemoryTree.Command,
        MemoryDump.Virtual, MemoryDump.Physical, PrintExpression.Command, TranslateAddress.Command,
        TranslateAddress.ToHostVirtual, TranslateAddress.ToHostPhysical, MemoryMappings.Ranges, MemoryMappings.Pages,
        Interrupts.Controllers, Interrupts.Counts, Interrupts.Local, RamBlocks.Command, Checksum.Command,
        DumpGuestMemory.Dump, DumpGuestMemory.Query, DumpGuestMemory.Capability,
        SaveMemory.Virtual, SaveMemory.Physical, PortAccess.In, PortAccess.Out,
        NumaNodes.Command,
        Balloon.Query, Balloon.Set, QueryMemorySize.Command, QueryMemoryDevices.Command, QueryAcpiStatus.Command,
        QueryCurrentMachine.Command,
        QueryObjects.IoThreads, QueryObjects.Memory,

        // Devices
        DeviceTree.Command, DeviceModels.Command, VirtioInfo.List, VirtioInfo.Status, VirtioInfo.QueueStatus,
        QueryGenerationId.Command, QueryTpm.Command, UsbDevices.Command, Absent.Replay, Absent.Spice,
            Absent.Sev, Absent.Sgx, Absent.DeviceTreeBlob, VncPasswords.SetPassword,
            VncPasswords.Expire, TraceEventCommands.Set, TraceEventCommands.SetState, TraceEventCommands.GetState,
            LogCommands.Items, LogCommands.OpenFile,
        QueryPci.Command, DeviceAdd.Command, DeviceDelete.Command, QueryBlock.Command, QueryBlock.Info,
        QueryBlockNodes.Command, QueryBlockNodes.Statistics, Snapshots.Info, QueryJobs.Command, QueryJobs.Block,
        Eject.Command, ChangeMedium.Change, ChangeMedium.OpenTray, ChangeMedium.CloseTray, ChangeMedium.Remove,
            ChangeMedium.Insert, BlockResize.Command, BlockSetIoThrottle.Command, DriveAdd.Add, DriveAdd.Delete,
        NbdServerCommands.Start, NbdServerCommands.Stop, NbdServerCommands.HumanStartCommand, BlockExportCommands.Add,
            BlockExportCommands.Delete, BlockExportCommands.Query, BlockExportCommands.ServerAdd,
            BlockExportCommands.ServerRemove,
        .. JobCommands.All, StartBlockJobs.Commit, StartBlockJobs.Stream, StartBlockJobs.Mirror, StartBlockJobs.Backup,
            StartBlockJobs.Create, BlockSnapshots.Snapshot, BlockSnapshots.SnapshotSync, BlockSnapshots.Transaction,
            BlockSnapshots.ChangeBacking, .. DirtyBitmaps.All, DriveJobs.Mirror, DriveJobs.Backup, DriveJobs.Commit,
            InternalSnapshots.Take, InternalSnapshots.Delete, BlockdevReopen.Command,
        BlockdevAdd.Add, BlockdevAdd.Delete, ObjectAdd.Add, ObjectAdd.Delete,
        ChardevAdd.Add, ChardevAdd.Change, ChardevAdd.Remove, ChardevAdd.SendBreak, NetdevAdd.Add, NetdevAdd.Delete,
        Ringbuf.Read, Ringbuf.Write,
        DescriptorCommands.GetFd, DescriptorCommands.CloseFd, DescriptorCommands.AddFd, DescriptorCommands.RemoveFd,
            DescriptorCommands.Query,
        QueryChardev.Command, QueryChardev.Backends,
        Network.Command, SetLink.Command, AnnounceSelf.Command, QueryRxFilter.Command,
        UserNetwork.Add, UserNetwork.Remove, UserNetwork.Connections,
        QueryVnc.Command, QueryVnc.Servers, AddClient.Command, ScreenDump.Command,
        AudioCapture.Start, AudioCapture.Stop, AudioCapture.Info,
        SendKey.Command, MouseInput.Move, MouseInput.Button, Mice.Query, Mice.Set,
    ];

    public static readonly CommandCatalogue Standard = new(All);

    readonly Dictionary<string, Command> _byName;
    readonly Lazy<JsonSerializerOptions> _json;
    readonly Lazy<IReadOnlyList<Command>> _human, _info;

    public CommandCatalogue(IReadOnlyList<Command> commands)
    {
        Commands = commands;
        _byName = commands.Where(c => c.Name != null).ToDictionary(c => c.Name!, StringComparer.Ordinal);
        _json = new Lazy<JsonSerializerOptions>(() => new JsonSerializerOptions
        {
            PropertyNamingPolicy = JsonNamingPolicy.KebabCaseLower,
            DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
            RespectRequiredConstructorParameters = true,
            RespectNullableAnnotations = true,
            TypeInfoResolver =
                JsonTypeInfoResolver.Combine([NothingJson.Default, EventJson.Default,
                .. commands.Select(c => c.Json).Distinct()]),
        });
        _human = new Lazy<IReadOnlyList<Command>>(() => ByName(isInfo: false));
        _info = new Lazy<IReadOnlyList<Command>>(() => ByName(isInfo: true));
    }

    public IReadOnlyList<Command> Commands { get; }

    /// <summary>What the human monitor knows, and its items of `info`; by name.</summary>
    public IReadOnlyList<Command> Human => _human.Value;
    public IReadOnlyList<Command> Info => _info.Value;

    /// <summary>How records become JSON: QMP's names, what is null left out.</summary>
    public JsonSerializerOptions Json => _json.Value;

    /// <summary>QMP's command of this name, or null.</summary>
    public Command? Find(string name) => _byName.GetValueOrDefault(name);

    IReadOnlyList<Command> ByName(bool isInfo) => [.. Commands.Where(c => c.Form?.IsInfo == isInfo)
        .OrderBy(c => c.Form!.Name, StringComparer.Ordinal)];
}

[JsonSerializable(typeof(Nothing))]
sealed partial class NothingJson : JsonSerializerContext;
