#!/bin/bash
# scripts/bench-kvm.sh [OTHER_QKVM]: out/qkvm, another qkvm and qemu-system-x86_64 under -enable-kvm, in turns:
# milliseconds from exec until the guest's first instruction has ended the program, and from exec to GRUB's prompt; how
# often the kernel's counter says that a processor left the guest per request to a virtio disk (reads of 4 KiB, one at a
# time); KiB that an idle machine with two processors has for itself alone, without the guest's memory. Medians of RUNS
# (default 5). NESTED=1 runs it in the machine of scripts/nested-kvm.sh, where the ratios mean something and the times
# do not. Needs .cache/tiny (images/tiny.sh), and for GRUB .cache/foreign/grub.iso (images/foreign.sh).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."
need python3:python3-minimal
[ "${NESTED:-}" != 1 ] || NESTED=0 exec scripts/nested-kvm.sh "$here/bench-kvm.sh" "$@"
[ -e .cache/tiny/initrd.cpio.gz ] || images/tiny.sh .cache/tiny || fail "no tiny Linux guest"

exec python3 - "${RUNS:-5}" "${ACCEL:-kvm}" out/qkvm "$@" qemu-system-x86_64 <<'EOF'
import json, os, shutil, socket, statistics, subprocess, sys, tempfile, time

runs, accel, programs = int(sys.argv[1]), sys.argv[2], [p for p in sys.argv[3:] if shutil.which(p)]
folder = tempfile.mkdtemp()
common = ["-nodefaults", "-no-user-config", "-display", "none", "-accel", accel]
requests, patience = 2000, 900

# A BIOS whose first instruction is mov al,0; out 0F4h,al: isa-debug-exit ends the program.
with open(f"{folder}/bios", "wb") as file:
    file.write(b"\xf4" * 0xFFF0 + b"\xb0\x00\xe6\xf4" + b"\xf4" * 12)
with open(f"{folder}/disk", "wb") as file:
    file.truncate(16 << 20)


def first_instruction(program):
    begin = time.monotonic()
    subprocess.run([program, *common, "-machine", "pc", "-m", "256", "-bios", f"{folder}/bios",
        "-device", "isa-debug-exit,iobase=0xf4"], stdin=subprocess.DEVNULL, timeout=patience)
    return (time.monotonic() - begin) * 1000


class Console:
    """A machine whose serial line is a pipe, with QMP on a socket."""

    def __init__(self, program, *arguments):
        self.path = f"{folder}/qmp"
        self.begin, self.text = time.monotonic(), b""
        self.process = subprocess.Popen([program, *common, "-serial", "stdio", "-qmp",
            f"unix:{self.path},server=on,wait=off", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            bufsize=0)
        self.socket = None

    def wait(self, word):
        while word not in self.text:
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece or time.monotonic() - self.begin > patience:
                raise SystemExit(f"no {word!r} in {self.text[-300:]!r}")
            self.text += piece
        self.text = self.text.split(word, 1)[1]

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")

    def ask(self, command, **arguments):
        if self.socket is None:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(self.path)
            self.file = self.socket.makefile("rwb")
            self.file.readline()
            self.ask("qmp_capabilities")
        self.file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\r\n")
        self.file.flush()
        while "event" in (reply := json.loads(self.file.readline())):
            pass
        return reply.get("return", [])

    def exits(self):
        return sum(value["value"] for one in self.ask("query-stats", target="vcpu")
            for value in one["stats"] if value["name"] == "exits")

    def own_memory(self):
        with open(f"/proc/{self.process.pid}/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    def end(self):
        if self.socket:
            self.socket.close()
        self.process.kill()
        self.process.wait()


def grub(program):
    machine = Console(program, "-machine", "pc", "-m", "256", "-cdrom", ".cache/foreign/grub.iso")
    machine.wait(b"grub>")
    took = (time.monotonic() - machine.begin) * 1000
    machine.end()
    return took


def linux(program):
    machine = Console(program, "-machine", "pc,memory-backend=m", "-m", "256", "-object",
        "memory-backend-memfd,id=m,size=256M,share=on", "-cpu", "host" if accel == "kvm" else "max", "-smp", "2",
        "-kernel", ".cache/tiny/vmlinuz", "-initrd", ".cache/tiny/initrd.cpio.gz", "-append",
        "console=ttyS0 quiet panic=-1", "-drive", f"file={folder}/disk,format=raw,if=none,id=d", "-device",
        "virtio-blk-pci,drive=d")
    machine.wait(b"TINY READY")
    machine.say("echo re''ady")
    machine.wait(b"ready")
    memory, before = machine.own_memory(), machine.exits()
    machine.say(f"dd if=/dev/vda of=/dev/null bs=4k count={requests} iflag=direct; echo do''ne")
    machine.wait(b"done")
    per_request = (machine.exits() - before) / requests
    machine.end()
    return memory, per_request


has_grub = os.path.exists(".cache/foreign/grub.iso")
results = {program: [] for program in programs}
for _ in range(runs):
    for program in programs:
        first = first_instruction(program)
        prompt = grub(program) if has_grub else float("nan")
        results[program].append((first, prompt, *linux(program)))
shutil.rmtree(folder)
print(f"{'median of ' + str(runs):34}" + "".join(f"{os.path.basename(p):>22}" for p in programs) + "   first : last")
for i, name in enumerate(("exec to first instruction, ms", "exec to GRUB, ms", "idle, own memory, KiB",
        "exits per virtio-blk request")):
    medians = [statistics.median(run[i] for run in results[p]) for p in programs]
    ratio = medians[0] / medians[-1] if medians[-1] else float("nan")
    print(f"{name:34}" + "".join(f"{m:22.2f}" for m in medians) + f"   {ratio:.2f}")
EOF
