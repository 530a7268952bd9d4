using Qkvm.Control.Hmp;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>info qdm: what -device can name, by categories.</summary>
static class DeviceModels
{
    static readonly (DeviceCategory[] Categories, string Title)[] s_groups =
    [
        ([DeviceCategory.Controller, DeviceCategory.Bridge], "Controller/Bridge/Hub"),
        ([DeviceCategory.Storage], "Storage"), ([DeviceCategory.Network], "Network"),
        ([DeviceCategory.Input], "Input"), ([DeviceCategory.Display], "Display"), ([DeviceCategory.Sound], "Sound"),
        ([DeviceCategory.Misc], "Misc"),
        ([DeviceCategory.Cpu], "CPU"),
    ];

    public static readonly Command Command = new HumanCommand("info qdm", "", "show qdev device model list",
        static (monitor, words) =>
        {
            words.End();
            DeviceModel[] all = [.. monitor.Context.Host.ModelsOf(ModelKind.Device).OfType<DeviceModel>()
                .Where(model => model.NotBuilt == null).OrderBy(m => m.Name, StringComparer.OrdinalIgnoreCase)];
            string between = "";
            foreach ((DeviceCategory[] categories, string title) in s_groups)
            {
                DeviceModel[] members = [.. all.Where(model => categories.Contains(model.Category))];
                if (members.Length == 0) continue;
                monitor.Write($"{between}{title} devices:\n");
                foreach (DeviceModel model in members) monitor.Write($"{model.HelpLine}\n");
                between = "\n";
            }
        });
}
