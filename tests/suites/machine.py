"""A user program, run on qkvm's processor behind rom.asm, or on this machine's own under ptrace; both end in a
State."""
import ctypes
import os
import signal
import struct
import subprocess

PAGE = 0x1000
IMAGE = 0x100000                    # as rom.asm has it: physical address of the image,
PARAMETERS = 0xFFFE0000             # virtual address of its first page,
ROM = 0xFFFF0000                    # and of the firmware behind it
USER_CODE32, USER_DATA, USER_CODE64 = 0x23, 0x2B, 0x33
HLT = 0xF4
GP, UD = 13, 6
SECONDS = 60                        # a program that takes longer hangs

REGISTERS = 'rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15'.split()
HEADER = 'vector error code cr2 rip cs rflags ss ds fsbase gsbase'.split()
XSAVE_SIZE = 832                    # SDM volume 1, section 13.4: legacy region, header, YMM halves
STATE_SIZE = ((len(HEADER) + len(REGISTERS)) * 8 + 63) // 64 * 64 + XSAVE_SIZE


class Program:
    """Segments are (address, length, bytes); what the bytes do not fill is zero."""

    def __init__(self, bits, entry, segments, rsp=0, dump=(0, 0)):
        self.bits, self.entry, self.rsp, self.dump = bits, entry, rsp, dump
        self.segments = sorted(segments, key=lambda segment: segment[0])


class State:
    """What a program left: registers by name, vector and code (the byte at RIP), vectors, and the memory asked for."""

    def __init__(self, values, xsave, memory):
        self.__dict__.update(values)
        self.memory = memory
        present, = struct.unpack_from('<Q', xsave, 512)
        if not present & 1:
            xsave = struct.pack('<HH', 0x37F, 0) + bytes(20) + xsave[24:32] + bytes(128) + xsave[160:]
        if not present & 2:
            xsave = xsave[:160] + bytes(256) + xsave[416:]
        if not present & 4:
            xsave = xsave[:576] + bytes(256)
        self.fcw, self.fsw, self.ftw = struct.unpack_from('<HHB', xsave)
        self.mxcsr, = struct.unpack_from('<I', xsave, 24)
        top = self.fsw >> 11 & 7
        self.st = [struct.unpack_from('<QH', xsave, 32 + i * 16) for i in range(8)]
        self.mm = [self.st[(i - top) % 8] for i in range(8)]     # by physical register
        self.ymm = [struct.unpack_from('<QQ', xsave, 160 + i * 16) + struct.unpack_from('<QQ', xsave, 576 + i * 16)
                    for i in range(16)]

    @property
    def halted(self):
        """Whether the program came to its HLT, the way they all end."""
        return self.vector == GP and self.code == HLT

    def end(self):
        return 'HLT' if self.halted else f'exception {self.vector} at {self.rip:#x} (code {self.code:02x})'


class Failed(Exception):
    """The emulator or the processor did not run the program to an exception."""


def pages(start, length):
    return range(start & -PAGE, (start + length + PAGE - 1) & -PAGE, PAGE)


class Image:
    """The ROM's contents: parameters, page tables, the program's pages, padding, firmware."""

    def __init__(self, program, firmware):
        self.blob = bytearray(PAGE)
        self.cr3 = self.page()
        zero = []
        for address, length, data in program.segments:
            if length >> 30:
                self.alias(address, length)
                continue
            for page in pages(address, length):
                content = data[max(page - address, 0):max(page - address + PAGE, 0)]
                if content:
                    content = bytes(max(address - page, 0)) + content
                    self.map(page, self.page(content))
                else:
                    zero.append(page)
        for page in zero + list(pages(ROM, 0x10000)):
            self.map(page, 0)                   # makes the tables, so that the image's size is known
        self.map(PARAMETERS, IMAGE, user=False)
        self.blob += bytes(-len(self.blob) % 0x10000)
        end = IMAGE + len(self.blob)
        for page in pages(ROM, 0x10000):
            self.map(page, end + page - ROM, user=False)
        for i, page in enumerate(zero):
            self.map(page, end + 0x10000 + i * PAGE)
        code, data = (USER_CODE64, 0) if program.bits == 64 else (USER_CODE32, USER_DATA)
        struct.pack_into('<7Q', self.blob, 0, self.cr3, program.entry, code, data, program.rsp, *program.dump)
        self.bytes = bytes(self.blob) + struct.pack('<I', len(self.blob)) + firmware[4:]

    def page(self, content=b''):
        self.blob += content.ljust(PAGE, b'\0')
        return IMAGE + len(self.blob) - PAGE

    def slot(self, address, levels):
        """Offset of the address's entry in its table of the given level; makes the tables above."""
        table = self.cr3
        for shift in (39, 30, 21, 12)[:levels]:
            at = table - IMAGE + (address >> shift & 511) * 8
            if shift == (39, 30, 21, 12)[levels - 1]:
                return at
            entry, = struct.unpack_from('<Q', self.blob, at)
            table = entry & -PAGE
            if not entry:
                table = self.page()
                struct.pack_into('<Q', self.blob, at, table | 7)

    def map(self, address, physical, user=True):
        at = self.slot(address, 4)
        struct.pack_into('<Q', self.blob, at, physical | (7 if user else 3))

    def alias(self, address, length):
        """A gigabyte and more, of which programs touch the two ends: large pages, by turns the same two."""
        for page in range(address, address + length, 2 << 20):
            at = self.slot(page, 3)
            struct.pack_into('<Q', self.blob, at, (48 << 20) + (page & 2 << 20) | 0x87)


class Emulator:
    """qkvm, one start per program."""

    def __init__(self, qkvm, folder):
        self.qkvm, self.folder = qkvm, folder
        here = os.path.dirname(os.path.abspath(__file__))
        self.firmware = assemble(os.path.join(here, 'rom.asm'), folder)

    def run(self, program):
        rom = os.path.join(self.folder, f'{os.getpid()}.rom')
        with open(rom, 'wb') as file:
            file.write(Image(program, self.firmware).bytes)
        command = [self.qkvm, '-accel', 'tcg', '-cpu', 'max', '-m', '64', '-nodefaults',
                   '-display', 'none', '-no-reboot',
                   '-bios', rom, '-chardev', 'stdio,id=out,signal=off', '-device', 'isa-debugcon,chardev=out',
                   '-device', 'isa-debug-exit']
        out = run(command)
        if len(out) != STATE_SIZE + program.dump[1]:
            raise Failed(f'the emulator wrote {len(out)} bytes of state')
        names = HEADER + REGISTERS
        values = dict(zip(names, struct.unpack_from(f'<{len(names)}Q', out)))
        return State(values, out[STATE_SIZE - XSAVE_SIZE:STATE_SIZE], out[STATE_SIZE:])


def run(command, seconds=SECONDS):
    """Standard output of a command that may end with any status, but has to end."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Failed(f'no end within {seconds} s') from None
    if done.returncode < 0 or done.returncode > 128:
        raise Failed(f'the emulator ended with {done.returncode}: {done.stderr.decode(errors="replace")[-300:]}')
    if done.stderr and not done.stdout:
        raise Failed(done.stderr.decode(errors='replace').strip()[-300:])
    return done.stdout


def assemble(source, folder, *options):
    """The flat binary of a source file."""
    out = os.path.join(folder, f'{os.getpid()}.bin')
    done = subprocess.run(['nasm', '-w-all', '-f', 'bin', *options, '-o', out, source], capture_output=True, text=True)
    if done.returncode:
        raise Failed('nasm: ' + done.stderr.strip()[:200])
    with open(out, 'rb') as file:
        return file.read()


# This machine's processor: the program as an ELF executable, stopped by ptrace at its first signal.

PTRACE_TRACEME, PTRACE_GETREGS, PTRACE_SETREGS, PTRACE_CONT, PTRACE_KILL, PTRACE_GETREGSET = 0, 12, 13, 7, 8, 0x4204
NT_X86_XSTATE = 0x202
USER_REGS = ('r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs rflags rsp ss fsbase gsbase '
             'ds es fs gs').split()
VECTORS = {signal.SIGFPE: 0, signal.SIGTRAP: 3, signal.SIGILL: UD, signal.SIGSEGV: GP, signal.SIGBUS: 17}


class Vector(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]


def elf(program):
    """A static executable with the program's segments."""
    wide = program.bits == 64
    header, entry = (64, 56) if wide else (52, 32)
    offset = (header + entry * len(program.segments) + PAGE - 1) & -PAGE
    table, body = b'', b''
    for address, length, data in program.segments:
        at = offset + len(body) + address % PAGE
        if wide:
            table += struct.pack('<IIQQQQQQ', 1, 7, at, address, address, len(data), length, PAGE)
        else:
            table += struct.pack('<IIIIIIII', 1, at, address, address, len(data), length, 7, PAGE)
        body += bytes(address % PAGE) + data
        body += bytes(-len(body) % PAGE)
    ident = bytes([0x7F]) + b'ELF' + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    form = '<HHIQQQIHHHHHH' if wide else '<HHIIIIIHHHHHH'
    head = ident + struct.pack(form, 2, 62 if wide else 3, 1, program.entry, header, 0, 0, header, entry,
                               len(program.segments), 0, 0, 0)
    return (head + table).ljust(offset, b'\0') + body


def run_natively(program, folder):
    """The State in which the program stops on this machine's processor."""
    path = os.path.join(folder, f'{os.getpid()}.elf')
    with open(path, 'wb') as file:
        file.write(elf(program))
    os.chmod(path, 0o755)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    child = os.fork()
    if child == 0:
        libc.ptrace(PTRACE_TRACEME, 0, None, None)
        signal.alarm(10)
        try:
            os.execve(path, [path], {})
        finally:
            os._exit(127)
    _, status = os.waitpid(child, 0)
    if not os.WIFSTOPPED(status):
        raise Failed('this machine cannot start the program')
    try:
        size = ctypes.sizeof(ctypes.c_uint64) * len(USER_REGS)
        buffer = ctypes.create_string_buffer(size)

        def registers():
            libc.ptrace(PTRACE_GETREGS, child, None, buffer)
            return dict(zip(USER_REGS, struct.unpack(f'<{len(USER_REGS)}Q', buffer.raw)))

        values = registers()
        values.update(rsp=program.rsp, rflags=0x202)
        buffer.raw = struct.pack(f'<{len(USER_REGS)}Q', *values.values())
        libc.ptrace(PTRACE_SETREGS, child, None, buffer)
        libc.ptrace(PTRACE_CONT, child, None, None)
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            raise Failed(f'on this machine it ended by itself (status {status:#x})')
        values = registers()
        area = ctypes.create_string_buffer(16384)
        vector = Vector(ctypes.addressof(area), len(area))
        libc.ptrace(PTRACE_GETREGSET, child, NT_X86_XSTATE, ctypes.byref(vector))
        values.update(vector=VECTORS.get(os.WSTOPSIG(status), 0xFF), code=0)
        with open(f'/proc/{child}/mem', 'rb', 0) as memory:
            try:
                memory.seek(values['rip'])
                values['code'] = memory.read(1)[0]
            except OSError:
                pass
            memory.seek(program.dump[0])
            dump = memory.read(program.dump[1])
        return State(values, area.raw[:XSAVE_SIZE], dump)
    finally:
        try:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
