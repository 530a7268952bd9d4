namespace Qkvm.Core.Block;

/// <summary>A drive whose medium comes and goes. Under the machine lock.</summary>
public interface IRemovable
{
    BlockBackend Backend { get; }
}
