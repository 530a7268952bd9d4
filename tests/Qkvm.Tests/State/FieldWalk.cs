using System.Reflection;
using System.Text.RegularExpressions;
using Qkvm.Core.Irq;
using Qkvm.Core.Time;
using Qkvm.Testing;

namespace Qkvm.Tests.State;

/// <summary>The values of all mutable fields that a device reaches, read by reflection: what no Exchange can
/// forget.</summary>
/// <remarks>Values, arrays of values, levels of wires and settings of timers; inside types of the devices' own
/// projects.
/// A field whose line, or the comment above it, says <c>// not migrated:</c> is left out.</remarks>
static partial class FieldWalk
{
    const BindingFlags Own = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic
        | BindingFlags.DeclaredOnly;

    static readonly string[] Walked = ["Qkvm.Hw", "Qkvm.Core.Pci", "Qkvm.Core.Virtio", "Qkvm.Machines"];
    static readonly Lazy<HashSet<(string File, string Field)>> Exempt = new(FindExempt);

    public static SortedDictionary<string, string> Values(object root)
    {
        var values = new SortedDictionary<string, string>(StringComparer.Ordinal);
        Visit(root, "", values, new HashSet<object>(ReferenceEqualityComparer.Instance));
        return values;
    }

    static void Visit(object here, string path, SortedDictionary<string, string> values, HashSet<object> seen)
    {
        if (!seen.Add(here)) return;
        for (Type? type = here.GetType(); type != null && IsOurs(type); type = type.BaseType)
            foreach (FieldInfo field in type.GetFields(Own))
                if (field.GetValue(here) is { } value && !IsExempt(field))
                    Add(value, $"{path}/{Plain(field.Name)}", field.IsInitOnly, values, seen);
    }

    static void Add(object value, string path, bool readOnly, SortedDictionary<string, string> values,
        HashSet<object> seen)
    {
        switch (value)
        {
            case Enum or string or bool or byte or sbyte or short or ushort or int or uint or long or ulong or char:
                if (!readOnly) values[path] = value.ToString()!;
                break;
            case IrqLine wire: values[path] = $"level {wire.Level}"; break;
            case IVmTimer timer: values[path] = $"due {timer.GetType().GetProperty("Due")!.GetValue(timer)}"; break;
            case Array array:
                if (array.GetType().GetElementType()!.IsPrimitive)
                    values[path] = string.Join(' ', array.Cast<object>());
                else
                    for (int i = 0; i < array.Length; i++)
                        if (array.GetValue(i) is { } element) Add(element, $"{path}[{i}]", readOnly, values, seen);
                break;
            default:
                if (IsOurs(value.GetType())) Visit(value, path, values, seen);
                break;
        }
    }

    static bool IsOurs(Type type) => !typeof(Delegate).IsAssignableFrom(type) && type.Namespace is { } space
        && Walked.Any(w => space == w || space.StartsWith(w + ".", StringComparison.Ordinal));

    static bool IsExempt(FieldInfo field)
    {
        string name = Plain(field.Name);
        for (Type? type = field.DeclaringType; type != null; type = type.DeclaringType)
            if (Exempt.Value.Contains((type.Name, name))) return true;
        return false;
    }

    /// <summary>Of a property's field the property's name.</summary>
    static string Plain(string field) => field.StartsWith('<') ? field[1..field.IndexOf('>')] : field;

    static HashSet<(string, string)> FindExempt()
    {
        var found = new HashSet<(string, string)>();
        foreach (string file in Sources.Files("src"))
        {
            string[] lines = File.ReadAllLines(file);
            for (int i = 0; i < lines.Length; i++)
            {
                int comment = lines[i].IndexOf("// not migrated", StringComparison.Ordinal);
                if (comment < 0) continue;
                string type = Path.GetFileName(file).Split('.')[0];
                bool isAbove = lines[i].AsSpan(0, comment).IsWhiteSpace();
                while (isAbove && lines[i].TrimStart().StartsWith("//", StringComparison.Ordinal)) i++;
                string field = isAbove ? lines[i] : lines[i][..comment];
                foreach (Match name in Identifier().Matches(field)) found.Add((type, name.Value));
            }
        }
        return found;
    }

    [GeneratedRegex(@"\w+")]
    private static partial Regex Identifier();
}
