"""FEX-Emu's unittests/ASM and unittests/32Bit_ASM: user programs that end with HLT; a JSON header says what registers
must hold then, and what memory and processor features the program needs. What is mapped where, and the registers at the
start, are as FEX's own runner has them."""
import functools
import glob
import json
import os
import re
import sys

import machine
import report
from machine import Failed, Program
from report import FAILED, PASSED, SKIPPED

CODE, SCRATCH, SIB, STACK32 = 0x10000, 0xE0000000, 0xE7FFF000, 0xC0000000

# FEX's name of a feature: the leaf of CPUID (sub-leaf 0), register and bit that tell of it.
FEATURES = {
    '3DNOW': (0x80000001, 'edx', 31), 'SSE4A': (0x80000001, 'ecx', 6), 'AVX': (7, 'ebx', 5), 'RAND': (1, 'ecx', 30),
    'SHA': (7, 'ebx', 29), 'CLZERO': (0x80000008, 'ebx', 0), 'BMI1': (7, 'ebx', 3), 'BMI2': (7, 'ebx', 8),
    'CLWB': (7, 'ebx', 24), 'AES256': (7, 'ecx', 9), 'SSSE3': (1, 'ecx', 9), 'SSE4.1': (1, 'ecx', 19),
    'SSE4.2': (1, 'ecx', 20), 'AES': (1, 'ecx', 25), 'PCLMUL': (1, 'ecx', 1), 'MOVBE': (1, 'ecx', 22),
    'ADX': (7, 'ebx', 19), 'XSAVE': (1, 'ecx', 26), 'RDPID': (7, 'ecx', 22), 'CLFLOPT': (7, 'ebx', 23),
    'FSGSBASE': (7, 'ebx', 0)}
LINUX = 'needs system calls of Linux'
SYSTEM_CALL = re.compile(r'^\s*(syscall|int 0x80)\b', re.MULTILINE)
UMIP = {'ASM/Secondary/07_XX_04.asm': 'expects SMSW as Linux emulates it under UMIP'}
NO_FEATURE = {'EMMI': 'needs the extended MMX of Cyrix', 'LINUX': LINUX,
              'AFP': "needs FEX's own treatment of NaN and tininess"}


def header(text):
    """The test's JSON header, keys in capitals; empty without one."""
    parts = text.split('%ifdef CONFIG')
    if len(parts) < 2:
        return {}
    return {key.upper(): value for key, value in json.loads(parts[1].split('%endif')[0]).items()}


def number(value):
    return int(value, 0) if isinstance(value, str) else value


def memory_bytes(text):
    """Groups of hexadecimal digits, each group a little-endian number."""
    groups = (group.removeprefix('0x') for group in text.split())
    return b''.join(bytes.fromhex(group.zfill(len(group) + len(group) % 2))[::-1] for group in groups)


def program(config, code):
    """Segments that must not overlap: what MemoryData gives lies in MemoryRegions or in what every test has."""
    segments = [[CODE, len(code), code], [SCRATCH, 10 * machine.PAGE, b''], [SIB, 2 * machine.PAGE, b'']]
    bits = 32 if config.get('MODE', '').upper() == '32BIT' else 64
    if bits == 32:
        segments.append([STACK32, machine.PAGE, b''])
    for address, length in config.get('MEMORYREGIONS', {}).items():
        segments.append([number(address), number(length), b''])
    for address, text in config.get('MEMORYDATA', {}).items():
        at, data = number(address), memory_bytes(text)
        for segment in segments:
            if segment[0] <= at < segment[0] + segment[1]:
                filled = segment[2].ljust(at - segment[0], b'\0')
                segment[2] = filled[:at - segment[0]] + data + filled[at - segment[0] + len(data):]
    return Program(bits, CODE, segments)


def difference(config, state):
    """What differs from the header, or None."""
    if not state.halted:
        return f'ended by {state.end()}'
    for name, values in config.get('REGDATA', {}).items():
        name = name.lower()
        values = [number(value) for value in (values if isinstance(values, list) else [values])]
        if name.startswith('xmm'):
            found = state.ymm[int(name[3:])]
        elif name.startswith('mm'):
            found = state.mm[int(name[2:])]
        else:
            found = [getattr(state, name)]
        for i, value in enumerate(values):
            if found[i] != value:
                return f'{name}[{i}] is {found[i]:#x}, not {value:#x}'
    return None


def lists(root, folder):
    """Names the suite itself does not run, or knows to fail, on a processor."""
    names = {}
    for file, reason in (('Disabled_Tests', 'the suite disables it'),
                         ('Disabled_Tests_host', 'the suite disables it on processors'),
                         ('Known_Failures', 'the suite knows it to fail'),
                         ('Known_Failures_host', 'the suite knows it to fail on processors')):
        path = os.path.join(root, folder, file)
        if os.path.exists(path):
            with open(path) as lines:
                for line in lines:
                    if line.strip() and not line.startswith('#'):
                        name = re.sub('^Test_(32Bit_)?', '', line.strip())
                        names[f'{folder}/{name}'] = reason
    return names


class Runner:
    def __init__(self, root, qkvm, directory, features, skip):
        self.root, self.directory, self.features, self.skip = root, directory, features, skip
        self.emulator = machine.Emulator(qkvm, directory)

    def __call__(self, test):
        with open(os.path.join(self.root, test), errors='replace') as file:
            text = file.read()
        try:
            config = header(text)
            if reason := self.skip.get(test) or self.missing(config):
                return SKIPPED, reason
            code = self.assemble(text, config)
        except (Failed, ValueError, KeyError) as problem:
            return FAILED, str(problem)
        subject = program(config, code)
        try:
            wrong = difference(config, self.emulator.run(subject))
        except Failed as problem:
            wrong = str(problem)
        if wrong is None:
            return PASSED, ''
        try:
            if difference(config, machine.run_natively(subject, self.directory)) == wrong:
                return SKIPPED, "this machine's processor differs from the suite in the same way"
        except Failed:
            pass
        return (SKIPPED, LINUX) if SYSTEM_CALL.search(text) else (FAILED, wrong)

    def missing(self, config):
        for name in config.get('HOSTFEATURES', []):
            name = name.upper()
            if name in NO_FEATURE:
                return NO_FEATURE[name]
            if name not in self.features:
                return f'needs {name}, which the emulated processor lacks'
        return None

    def assemble(self, text, config):
        # 32-bit tests begin with the loading of DS and ES, which here have their values already.
        wide = config.get('MODE', '').upper() != '32BIT'
        start = 'bits 64\n' if wide else 'bits 32\norg 10000h\nmov eax, 0x17\n'
        source = os.path.join(self.directory, f'{os.getpid()}.asm')
        with open(source, 'w') as file:
            file.write(start + text + '\nret\n')
        return machine.assemble(source, self.directory, '-i', os.path.join(self.root, 'ASM/Includes/'))


def emulated_features(emulator, directory):
    """FEX's names of the features that CPUID shows to a program."""
    found = set()
    for leaf in sorted({leaf for leaf, _, _ in FEATURES.values()}):
        source = os.path.join(directory, 'cpuid.asm')
        with open(source, 'w') as file:
            file.write(f'bits 64\nmov eax, {leaf}\nxor ecx, ecx\ncpuid\nhlt\n')
        code = machine.assemble(source, directory)
        state = emulator.run(Program(64, CODE, [(CODE, len(code), code)]))
        for name, (where, register, bit) in FEATURES.items():
            if where == leaf and getattr(state, 'r' + register[1:]) >> bit & 1:
                found.add(name)
    return found


def main():
    args = report.arguments('FEX-Emu: unittests/ASM and unittests/32Bit_ASM')
    root = os.path.join(args.folder, 'unittests')
    tests, skip = [], dict(UMIP)
    for folder in 'ASM', '32Bit_ASM':
        files = glob.glob(os.path.join(root, folder, '**/*.asm'), recursive=True)
        tests += sorted(os.path.relpath(file, root) for file in files if args.only in file)
        skip |= lists(root, folder)
    if not tests:
        sys.exit(f'no tests in {root}')
    directory = report.folder()
    features = emulated_features(machine.Emulator(args.qkvm, directory), directory)
    setup = functools.partial(Runner, root, args.qkvm, directory, features, skip)
    return report.run(tests, setup, args.jobs, directory)


if __name__ == '__main__':
    sys.exit(main())
