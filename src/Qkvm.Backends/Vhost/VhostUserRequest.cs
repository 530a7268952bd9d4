namespace Qkvm.Backends.Vhost;

/// <summary>What a vhost-user back-end is asked; names of the protocol.</summary>
public enum VhostUserRequest : uint
{
    GetFeatures = 1, SetFeatures = 2, SetOwner = 3, SetMemTable = 5, SetVringNum = 8, SetVringAddr = 9,
    SetVringBase = 10, GetVringBase = 11, SetVringKick = 12, SetVringCall = 13, GetProtocolFeatures = 15,
    SetProtocolFeatures = 16, GetQueueNum = 17, SetVringEnable = 18, SetBackendReqFd = 21, GetConfig = 24,
    SetConfig = 25,
}

/// <summary>VHOST_USER_PROTOCOL_F_*.</summary>
[Flags]
public enum VhostUserProtocol : ulong { None = 0, Mq = 1 << 0, ReplyAck = 1 << 3, BackendReq = 1 << 5, Config = 1 << 9 }
