using Qkvm.Core.Devices;
using Qkvm.Core.State;
using Xunit;

namespace Qkvm.Testing;

/// <summary>What every device promises about its state.</summary>
public static class StateAssert
{
    /// <summary>Resetting the used device makes it equal a new one.</summary>
    public static void ResetEqualsNew(IDevice used, IDevice fresh)
    {
        used.Reset();
        Assert.Equal(StateNode.Save(fresh.Exchange).ToString(), StateNode.Save(used.Exchange).ToString());
    }

    /// <summary>A new device that loads the used one's state saves the same state.</summary>
    public static void SurvivesSaveAndLoad(IDevice used, IDevice fresh)
    {
        StateNode saved = StateNode.Save(used.Exchange);
        saved.Load(fresh.Exchange);
        Assert.Equal(saved.ToString(), StateNode.Save(fresh.Exchange).ToString());
    }
}
