namespace Qkvm.Core.Net;

/// <summary>Sees the frames that pass a netdev. From any thread, several at a time.</summary>
public interface INetFilter
{
    /// <summary>As `info network` shows it: "f0: type=filter-dump,file=…".</summary>
    string Description { get; }

    /// <param name="fromGuest">The direction.</param>
    /// <param name="header">What is still to be done to it.</param>
    void See(bool fromGuest, in NetHeader header, in Block.ScatterList frame);

    /// <summary>The same of a frame in one piece.</summary>
    void See(bool fromGuest, in NetHeader header, ReadOnlySpan<byte> frame);
}
