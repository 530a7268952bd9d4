using Qkvm.Core.Devices;
using Qkvm.Core.Input;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Input;

/// <summary>Keyboard controller with PS/2 keyboard and mouse. Spec: IBM PS/2 Hardware Interface Technical Reference,
/// "Keyboard/Auxiliary Device Controller".</summary>
/// <remarks>The board maps <see cref="Data"/> at port 60h and <see cref="Command"/> at port 64h, one byte each.
/// Deviations: bytes travel in no time, so the input buffer is never full; there are no time-outs and parity
/// errors.</remarks>
public sealed class I8042 : IDevice
{
    // Status register
    const byte OutputFull = 0x01, SystemFlag = 0x04, LastWasCommand = 0x08, Unlocked = 0x10, AuxiliaryOutputFull = 0x20;
    // Command byte
    const byte KeyboardInterrupt = 0x01, AuxiliaryInterrupt = 0x02, KeyboardDisabled = 0x10, AuxiliaryDisabled = 0x20,
        TranslateCodes = 0x40;
    // Output port
    const byte NotReset = 0x01, A20 = 0x02, OutputPortOnes = 0xCC, KeyboardFull = 0x10, AuxiliaryFull = 0x20;
    // Controller commands
    const byte FirstReadRam = 0x20, LastReadRam = 0x3F, FirstWriteRam = 0x60, LastWriteRam = 0x7F,
        DisableAuxiliary = 0xA7, EnableAuxiliary = 0xA8,
        TestAuxiliary = 0xA9, SelfTest = 0xAA, TestKeyboard = 0xAB, DisableKeyboard = 0xAD, EnableKeyboard = 0xAE,
        ReadInputPort = 0xC0,
        ReadOutputPort = 0xD0, WriteOutputPort = 0xD1, WriteKeyboardOutput = 0xD2, WriteAuxiliaryOutput = 0xD3,
        WriteAuxiliary = 0xD4,
        DisableA20 = 0xDD, EnableA20 = 0xDF, ReadTestInputs = 0xE0, FirstPulse = 0xF0;
    const byte SelfTestPassed = 0x55, LineTestPassed = 0x00, InputPort = 0x80;
    const int RamSize = 32;

    readonly IrqLine _irq1, _irq12;
    readonly Action<bool> _setA20;
    readonly Action _resetMachine;
    readonly byte[] _ram = new byte[RamSize];                      // byte 0 is the command byte
    // of the controller itself, waiting for the output buffer
    readonly ByteQueue _replies = new(16);
    byte _status, _output, _pendingCommand;
    bool _a20, _break;

    /// <param name="setA20">The A20 gate: true opens it.</param>
    /// <param name="resetMachine">The processor's RESET line is pulled.</param>
    public I8042(IrqLine irq1, IrqLine irq12, Action<bool> setA20, Action resetMachine, InputRouter input)
    {
        (_irq1, _irq12, _setA20, _resetMachine) = (irq1, irq12, setA20, resetMachine);
        Keyboard = new Ps2Keyboard(Fill);
        Mouse = new Ps2Mouse(Fill);
        Data = new DataPort(this);
        Command = new CommandPort(this);
        Clear();
        input.Add((IKeyboardSink)Keyboard);
        input.Add((IPointerSink)Mouse);
    }

    public string Name => "i8042";
    public Ps2Keyboard Keyboard { get; }
    public Ps2Mouse Mouse { get; }
    public IRegisterBank Data { get; }
    public IRegisterBank Command { get; }

    public void Reset()
    {
        Clear();
        _setA20(true);
    }

    public void Exchange(StateStream state)
    {
        state.Block("ram", _ram);
        state.Field("status", ref _status);
        state.Field("output", ref _output);
        state.Field("pending-command", ref _pendingCommand);
        state.Field("a20", ref _a20);
        state.Field("break", ref _break);
        _replies.Exchange(state, "replies");
        Keyboard.Exchange(state.Group("keyboard"));
        Mouse.Exchange(state.Group("mouse"));
        if (!state.IsLoading) return;
        _status = (byte)(_status & (OutputFull | SystemFlag | LastWasCommand | AuxiliaryOutputFull) | Unlocked);
        _irq1.Restore(IsKeyboardRequest);
        _irq12.Restore(IsAuxiliaryRequest);
        _setA20(_a20);
    }

    void Clear()
    {
        Array.Clear(_ram);
        _ram[0] = KeyboardInterrupt | AuxiliaryInterrupt;
        _status = LastWasCommand | Unlocked;
        _output = _pendingCommand = 0;
        _a20 = true;
        _break = false;
        _replies.Clear();
        Keyboard.Reset();
        Mouse.Reset();
        Fill();
    }

    bool IsKeyboardRequest => (_status & (OutputFull | AuxiliaryOutputFull)) == OutputFull
        && (_ram[0] & KeyboardInterrupt) != 0;
    bool IsAuxiliaryRequest => (_status & AuxiliaryOutputFull) != 0 && (_ram[0] & AuxiliaryInterrupt) != 0;

    byte ReadData()
    {
        byte data = _output;
        _status &= unchecked((byte)~(OutputFull | AuxiliaryOutputFull));
        UpdateIrqs();                                              // the request falls before the next byte raises it
        Fill();
        return data;
    }

    void WriteData(byte data)
    {
        byte command = _pendingCommand;
        _pendingCommand = 0;
        _status &= unchecked((byte)~LastWasCommand);
        switch (command)
        {
            case 0:
                _ram[0] &= unchecked((byte)~KeyboardDisabled);     // sending enables the interface
                Keyboard.Write(data);
                break;
            case >= FirstWriteRam and <= LastWriteRam: WriteRam(command - FirstWriteRam, data); break;
            case WriteOutputPort: SetOutputPort(data); break;
            case WriteKeyboardOutput: Output(data, auxiliary: false); break;
            case WriteAuxiliaryOutput: Output(data, auxiliary: true); break;
            case WriteAuxiliary:
                _ram[0] &= unchecked((byte)~AuxiliaryDisabled);
                Mouse.Write(data);
                break;
        }
        Fill();
    }

    void WriteCommand(byte command)
    {
        _pendingCommand = 0;
        _status |= LastWasCommand;
        switch (command)
        {
            case >= FirstReadRam and <= LastReadRam: Reply(_ram[command - FirstReadRam]); break;
            case (>= FirstWriteRam and <= LastWriteRam) or WriteOutputPort or WriteKeyboardOutput
                or WriteAuxiliaryOutput or WriteAuxiliary:
                _pendingCommand = command;
                break;
            case DisableAuxiliary: _ram[0] |= AuxiliaryDisabled; break;
            case EnableAuxiliary: _ram[0] &= unchecked((byte)~AuxiliaryDisabled); break;
            case TestAuxiliary or TestKeyboard: Reply(LineTestPassed); break;
            case SelfTest:
                _status |= SystemFlag;
                _ram[0] |= SystemFlag;
                Reply(SelfTestPassed);
                break;
            case DisableKeyboard: _ram[0] |= KeyboardDisabled; break;
            case EnableKeyboard: _ram[0] &= unchecked((byte)~KeyboardDisabled); break;
            case ReadInputPort: Reply(InputPort); break;
            case ReadOutputPort: Reply(OutputPort); break;
            case DisableA20: SetA20(false); break;
            case EnableA20: SetA20(true); break;
            case ReadTestInputs: Reply(0); break;
            case >= FirstPulse:
                if ((command & NotReset) == 0) _resetMachine();
                break;
        }
        Fill();
    }

    void WriteRam(int index, byte data)
    {
        _ram[index] = data;
        if (index != 0) return;
        _status = (byte)(_status & ~SystemFlag | data & SystemFlag);
        UpdateIrqs();
    }

    byte OutputPort => (byte)(NotReset | OutputPortOnes | (_a20 ? A20 : 0) | (IsKeyboardRequest ? KeyboardFull : 0)
        | (IsAuxiliaryRequest ? AuxiliaryFull : 0));

    void SetOutputPort(byte value)
    {
        SetA20((value & A20) != 0);
        if ((value & NotReset) == 0) _resetMachine();
    }

    void SetA20(bool open)
    {
        _a20 = open;
        _setA20(open);
    }

    void Reply(byte value) => _replies.TryPush(value);

    /// <summary>Moves the next byte into the empty output buffer: a reply, else from the keyboard, else from the
    /// mouse.</summary>
    void Fill()
    {
        if ((_status & OutputFull) == 0)
        {
            if (_replies.Count > 0) Output(_replies.Pop(), auxiliary: false);
            else if (!TakeKey() && Mouse.HasData && (_ram[0] & AuxiliaryDisabled) == 0)
                Output(Mouse.Read(), auxiliary: true);
        }
        UpdateIrqs();
        Keyboard.Settle();
    }

    bool TakeKey()
    {
        if ((_ram[0] & KeyboardDisabled) != 0) return false;
        while (Keyboard.HasData)
        {
            byte code = Keyboard.Read();
            if ((_ram[0] & TranslateCodes) == 0)
            {
                Output(code, auxiliary: false);
                return true;
            }
            if (code == ScanCodes.Break) { _break = true; continue; }
            Output((byte)(ScanCodes.Translate(code) | (_break ? ScanCodes.Set1Break : 0)), auxiliary: false);
            _break = false;
            return true;
        }
        return false;
    }

    void Output(byte value, bool auxiliary)
    {
        _output = value;
        _status = (byte)(_status & ~AuxiliaryOutputFull | OutputFull | (auxiliary ? AuxiliaryOutputFull : 0));
    }

    void UpdateIrqs()
    {
        _irq1.Set(IsKeyboardRequest);
        _irq12.Set(IsAuxiliaryRequest);
    }

    sealed class DataPort(I8042 controller) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => controller.ReadData();
        public void Write(ulong offset, int size, ulong value) => controller.WriteData((byte)value);
    }

    sealed class CommandPort(I8042 controller) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => controller._status;
        public void Write(ulong offset, int size, ulong value) => controller.WriteCommand((byte)value);
    }
}
