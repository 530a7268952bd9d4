using System.Text.Json.Nodes;
using Qkvm.Core.Devices;

namespace Qkvm.Control.Qom;

/// <summary>An object of the tree that qom-list walks; what is below it is looked up when it is asked for.</summary>
sealed class QomNode(string type, Func<IEnumerable<QomProperty>>? properties = null,
    Func<IEnumerable<KeyValuePair<string, QomNode>>>? children = null)
{
    public string Type => type;

    /// <summary>The type first.</summary>
    public IEnumerable<QomProperty> Properties =>
        (properties?.Invoke() ?? []).Prepend(new QomProperty("type", "string", () => JsonValue.Create(type)));

    public IEnumerable<KeyValuePair<string, QomNode>> Children => children?.Invoke() ?? [];

    /// <summary>A container, which has nothing of its own.</summary>
    public static QomNode Container(Func<IEnumerable<KeyValuePair<string, QomNode>>> children) =>
        new("container", null, children);

    /// <summary>The node of an absolute path, or of the end of one that no other has; null: there is none.</summary>
    /// <param name="isAmbiguous">Several paths end so.</param>
    public QomNode? Find(string path, out bool isAmbiguous)
    {
        isAmbiguous = false;
        string[] parts = path.Split('/', StringSplitOptions.RemoveEmptyEntries);
        if (path.StartsWith('/')) return Below(parts);
        QomNode[] found = [.. All().Select(node => node.Below(parts)).OfType<QomNode>().Distinct().Take(2)];
        isAmbiguous = found.Length > 1;
        return found.Length == 1 ? found[0] : null;
    }

    QomNode? Below(ReadOnlySpan<string> parts)
    {
        QomNode? node = this;
        foreach (string part in parts)
            if ((node = node.Children.FirstOrDefault(child => child.Key == part).Value) == null) break;
        return node;
    }

    IEnumerable<QomNode> All() => Children.SelectMany(child => child.Value.All()).Prepend(this);
}
