namespace Qkvm.Backends.Tests;

/// <summary>Tests that count what the whole process holds, memory or descriptors: nothing else may run
/// meanwhile.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;
