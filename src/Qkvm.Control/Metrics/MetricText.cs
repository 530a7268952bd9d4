using System.Globalization;
using System.Text;

namespace Qkvm.Control.Metrics;

/// <summary>Prometheus' text format 0.0.4. Spec: Prometheus, "Exposition formats", "Text format details".</summary>
public static class MetricText
{
    public const string ContentType = "text/plain; version=0.0.4; charset=utf-8";

    /// <summary>Metrics without samples are left out.</summary>
    public static string Write(IEnumerable<Metric> metrics, CommandContext context)
    {
        var text = new StringBuilder();
        foreach (Metric metric in metrics)
        {
            bool isFirst = true;
            foreach (Sample sample in metric.Read(context))
            {
                if (isFirst)
                    text.Append($"# HELP {metric.Name} {metric.Help}\n")
                        .Append($"# TYPE {metric.Name} {(metric.Kind == MetricKind.Counter ? "counter" : "gauge")}\n");
                isFirst = false;
                text.Append(metric.Name);
                for (int i = 0; i < sample.Labels.Length; i++)
                    text.Append(i == 0 ? '{' : ',')
                        .Append($"{sample.Labels[i].Name}=\"{Escape(sample.Labels[i].Value)}\"");
                if (sample.Labels.Length > 0) text.Append('}');
                text.Append(CultureInfo.InvariantCulture, $" {sample.Value}\n");
            }
        }
        return text.ToString();
    }

    static string Escape(string value) => value.Replace(@"\", @"\\").Replace("\"", "\\\"").Replace("\n", "\\n");
}
