"""v86's tests/nasm: user programs in 32-bit ELF files (made by its create_tests.js), whose end on the emulated
processor has to be that on this machine's own: exception, registers, flags that instructions define, vectors, x87 and
memory."""
import functools
import glob
import os
import re
import struct
import sys

import machine
import report
from machine import Failed, Program
from report import FAILED, PASSED

ARITHMETIC_FLAGS = 0x8D5                # CF, PF, AF, ZF, SF, OF: the tests mask what an instruction leaves undefined,
DIVISION = re.compile('gen_f[67]_[67]_')    # except after DIV and IDIV
FPU_STATUS = 0x7FFF                     # all but B
STACK = 0x100000, 0x2000                # .bss


def load(path):
    """The Program in an ELF file (System V ABI, i386 supplement, chapter 5)."""
    with open(path, 'rb') as file:
        data = file.read()
    entry, at = struct.unpack_from('<II', data, 24)
    size, count = struct.unpack_from('<HH', data, 42)
    segments = []
    for i in range(count):
        _, offset, address, _, filled, length = struct.unpack_from('<6I', data, at + i * size)
        segments.append((address, length, data[offset:offset + filled]))
    return Program(32, entry, segments, dump=STACK)


def stands(state):
    """What of a State the test is about: (name, value) pairs."""
    yield 'exception', 'none' if state.code == machine.HLT else state.vector
    yield 'eip', state.rip
    if state.code != machine.HLT:
        return
    for name in machine.REGISTERS[:8]:
        yield name, getattr(state, name) & 0xFFFFFFFF
    yield 'flags', state.rflags & ARITHMETIC_FLAGS
    yield 'fsw', state.fsw & FPU_STATUS
    yield 'fcw', state.fcw
    yield 'ftw', state.ftw
    yield 'mxcsr', state.mxcsr
    yield from ((f'st{i}', state.st[i]) for i in range(8))
    yield from ((f'ymm{i}', state.ymm[i]) for i in range(8))
    yield from ((f'memory at {STACK[0] + i:#x}', state.memory[i]) for i in range(len(state.memory)))


class Runner:
    def __init__(self, qkvm, directory):
        self.directory = directory
        self.emulator = machine.Emulator(qkvm, directory)

    def __call__(self, path):
        try:
            program = load(path)
            wanted = stands(machine.run_natively(program, self.directory))
            for (name, found), (_, value) in zip(stands(self.emulator.run(program)), wanted):
                if found != value and not (name == 'flags' and DIVISION.search(path)):
                    return FAILED, f'{name} is {found}, not {value}'
        except Failed as problem:
            return FAILED, str(problem)
        return PASSED, ''


def main():
    args = report.arguments("v86: tests/nasm, after node tests/nasm/create_tests.js")
    tests = sorted(path for path in glob.glob(os.path.join(args.folder, 'tests/nasm/build/*.img')) if args.only in path)
    if not tests:
        sys.exit(f'no tests/nasm/build/*.img in {args.folder}: run node tests/nasm/create_tests.js there')
    directory = report.folder()
    return report.run(tests, functools.partial(Runner, args.qkvm, directory), args.jobs, directory)


if __name__ == '__main__':
    sys.exit(main())
