using Qkvm.Core.Acpi;
using static Qkvm.Core.Acpi.Aml;

namespace Qkvm.Machines.Firmware;

/// <summary>The methods around numbered slots whose contents come and go, over registers that show one slot at a time.
/// Spec: ACPI 6.3, sections 5.6.6 "Device Object Notifications" and 6.3.</summary>
/// <param name="Letter">With which the names of the methods begin.</param>
/// <param name="Mutex">Held while a slot is selected.</param>
/// <param name="Select">The register that selects one.</param>
/// <param name="Occupied">Something is in it.</param>
/// <param name="HasCome">News, which writing one clears.</param>
/// <param name="IsToGo">As before.</param>
/// <param name="Eject">Writing one lets go.</param>
sealed record SlotMethods(char Letter, string Mutex, string Select, string Occupied, string HasCome, string IsToGo,
    string Eject)
{
    const int Present = 0x0F;                                      // _STA
    const int Look = 1, LetGo = 3;                                 // of Notify

    /// <summary>A method about the slot that Arg0 says.</summary>
    public Aml About(string name, int arguments, params ReadOnlySpan<Aml> terms) => SerializedMethod(name, arguments,
        [Acquire(Mutex), Store(Arg0, Ref(Select)), .. terms, Release(Mutex)]);

    /// <summary>As before; it returns Local0.</summary>
    public Aml Value(string name, params ReadOnlySpan<Aml> terms) => SerializedMethod(name, 1,
        [Acquire(Mutex), Store(Arg0, Ref(Select)), .. terms, Release(Mutex), Return(Local0)]);

    /// <summary>For _STA.</summary>
    public Aml Status(string name) => Value(name, Store(0, Local0), If(Ref(Occupied), Store(Present, Local0)));

    /// <summary>For _EJ0.</summary>
    public Aml Ejection(string name) => About(name, 1, Store(1, Ref(Eject)));

    /// <summary>Passes the news of the selected slot on.</summary>
    public Aml[] PassOn(Aml slot, params ReadOnlySpan<Aml> otherwise) =>
    [
        If(Ref(HasCome), Call(Notifier, slot, Look), Store(1, Ref(HasCome))),
        Else([If(Ref(IsToGo), Call(Notifier, slot, LetGo), Store(1, Ref(IsToGo))),
            .. otherwise.Length > 0 ? [Else(otherwise)] : ReadOnlySpan<Aml>.Empty]),
    ];

    /// <summary>What PassOn calls: slot and kind of news.</summary>
    public Aml Notifications(int slots, Func<int, string> nameOf) => Method(Notifier, 2,
        [.. Enumerable.Range(0, slots).Select(slot => If(Equal(Arg0, slot), Notify(Ref(nameOf(slot)), Arg1)))]);

    string Notifier => $"{Letter}TFY";
}
