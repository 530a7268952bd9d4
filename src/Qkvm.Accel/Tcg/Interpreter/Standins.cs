using Iced.Intel;
namespace Qkvm.Accel.Tcg.Interpreter;
static unsafe class VectorOps { public static bool TrySelect(in Instruction x, Insn* i) => false; }
