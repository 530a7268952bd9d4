using System.Text.RegularExpressions;

namespace Qkvm.Tests;

/// <summary>What users can name stands in its own file and in the catalogue; nobody else knows the name.</summary>
public class CatalogueLawTests
{
    static readonly string[] Lists = ["Catalogue.cs", "Missing.cs"];

    /// <summary>Names that are words of other meanings, too (kvm, file, socket …), are left out: backends, drivers,
    /// displays, the machine "none", and "floppy", which is an option of directories as disks.</summary>
    static IEnumerable<Model> Models => [.. Catalogue.Devices.Models.Where(m => m.Name != "floppy"),
        .. Catalogue.Machines.Models.Where(m => m.Name != "none"), .. Catalogue.Objects.Models];

    [Fact]
    public void No_file_names_what_another_one_makes()
    {
        var found = new List<string>();
        // "iothread" and "throttle-group" are properties, too, and say nothing
        var properties = Models.Concat(Catalogue.BlockDrivers.Models).SelectMany(m => m.Properties).Select(p => p.Name)
            .ToHashSet();
        foreach (string file in Sources.Files("src"))
        {
            if (Lists.Contains(Path.GetFileName(file))) continue;
            string text = string.Join('\n', File.ReadLines(file).Select(line => line.Split("//")[0]));
            foreach (Model model in Models.Where(m => !properties.Contains(m.Name)))
            {
                bool isOwn = Regex.IsMatch(text, $"(new|Family|base)\\([^;]*\"{Regex.Escape(model.Name)}\"");
                if (text.Contains($"\"{model.Name}\"") && !isOwn) found.Add($"{Path.GetFileName(file)}: {model.Name}");
            }
        }
        Assert.Empty(found);
    }

    [Fact]
    public void Every_model_declares_each_property_once()
    {
        Model[] all = [.. Models, .. Catalogue.Chardevs.Models, .. Catalogue.Netdevs.Models,
            .. Catalogue.BlockDrivers.Models, .. Catalogue.Accelerators.Models, .. Catalogue.Displays.Models];
        foreach (Model model in all)
        {
            Assert.Equal(model.Properties.Length, model.Properties.DistinctBy(p => p.Name).Count());
            foreach (Property property in model.Properties.Where(p => p.Default != null))
                Assert.Equal(property.Default, property.Checked(property.Default!, model.Name));
        }
    }
}
