using System.Reflection;
using System.Runtime.InteropServices;
using Qkvm.Testing;

namespace Qkvm.Host.Tests;

public sealed class GlibcTests
{
    [Fact]
    public void Each_function_that_is_looked_up_in_libc_is_in_the_oldest_glibc()
    {
        string libc = File.ReadLines("/proc/self/maps")
            .First(line => line.EndsWith("/libc.so.6", StringComparison.Ordinal)).Split(' ')[^1];
        HashSet<string> old =
            [.. Glibc.Symbols(libc, defined: true).Where(symbol => symbol.Version <= Glibc.Oldest)
            .Select(symbol => symbol.Name)];
        const BindingFlags all = BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic;
        string[] imported = [.. typeof(Libc).Assembly.GetTypes().SelectMany(type => type.GetMethods(all))
            .Select(method => method.GetCustomAttribute<DllImportAttribute>()).Where(import => import?.Value == "libc")
            .Select(import => import!.EntryPoint!).Distinct()];
        Assert.Contains("syscall", imported);
        Assert.DoesNotContain(imported, name => !old.Contains(name));
    }

    [Fact]
    public void System_calls_by_number_return_what_their_functions_do()
    {
        Assert.Equal(-1, Status("/no/such/file"));
        Assert.Equal(2, Libc.Errno);
        Assert.Equal(0, Status("/"));
        Assert.Contains($"{Libc.gettid()}", Directory.GetDirectories("/proc/self/task").Select(Path.GetFileName));
    }

    static unsafe int Status(string path)
    {
        FileStatus status;
        int result = Libc.stat(path, &status);
        if (result == 0) Assert.True(status.IsDirectory);
        return result;
    }
}
