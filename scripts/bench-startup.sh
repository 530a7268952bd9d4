#!/bin/bash
# scripts/bench-startup.sh [OTHER_QKVM]: out/qkvm, another qkvm and qemu-system-x86_64 in turns: milliseconds from exec
# to QMP's greeting, of a program that asks what there is (libvirt's probe) and of a pc; milliseconds for 10,000 round
# trips; KiB of memory that an idle machine has for itself alone; and, where images/tiny.sh has made .cache/tiny,
# milliseconds from exec to init of that Linux on microvm and on pc (QEMU's microvm without ACPI: with it, its Linux
# stops at the clock). Medians of RUNS (default 9).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."
need python3:python3-minimal

exec python3 - "${RUNS:-9}" out/qkvm "$@" qemu-system-x86_64 <<'EOF'
import json, os, shutil, socket, statistics, subprocess, sys, tempfile, time

runs, programs = int(sys.argv[1]), [p for p in sys.argv[2:] if shutil.which(p)]
none = ["-S", "-no-user-config", "-nodefaults", "-nographic", "-machine", "none,accel=tcg"]
machine = ["-S", "-no-user-config", "-nodefaults", "-display", "none", "-machine", "pc", "-accel", "tcg", "-m", "256",
    "-device", "virtio-net-pci", "-vga", "std"]
probe = ["query-version", "query-target", "query-qmp-schema", "query-commands", "query-kvm", "qom-list-types",
    "query-machines", "query-cpu-definitions", "query-tpm-models", "query-tpm-types", "query-command-line-options",
    "query-migrate-capabilities"]
typed = [("device-list-properties", name) for name in ("virtio-blk-pci", "virtio-net-pci", "VGA", "ide-hd",
    "virtio-balloon-pci", "virtio-rng-pci", "e1000", "isa-serial")] + [("qom-list-properties", name)
    for name in ("memory-backend-file", "memory-backend-memfd", "max-x86_64-cpu", "none-machine")]


class Machine:
    def __init__(self, program, arguments):
        self.folder = tempfile.mkdtemp()
        path = self.folder + "/qmp"
        self.start = time.monotonic()
        self.process = subprocess.Popen([program, *arguments, "-qmp", f"unix:{path},server=on,wait=off"],
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.0005)
        self.file = self.socket.makefile("rwb")
        self.file.readline()
        self.greeted = time.monotonic() - self.start
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\r\n")
        self.file.flush()
        while True:
            reply = json.loads(self.file.readline())
            if "event" not in reply:
                return reply

    def own_memory(self):
        with open(f"/proc/{self.process.pid}/smaps_rollup") as lines:
            return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))

    def end(self):
        self.socket.close()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)


def measure(program):
    asked = Machine(program, none)
    greeting = asked.greeted
    for name in probe:
        asked.ask(name)
    for name, of in typed:
        asked.ask(name, typename=of)
    for model in ("host", "max"):
        asked.ask("query-cpu-model-expansion", type="static", model={"name": model})
    probed = time.monotonic() - asked.start
    asked.end()
    idle = Machine(program, machine)
    greeting_pc, memory, start = idle.greeted, None, time.monotonic()
    for _ in range(10_000):
        idle.ask("query-status")
    trips = time.monotonic() - start
    time.sleep(0.5)
    memory = idle.own_memory()
    idle.end()
    return greeting * 1000, probed * 1000, greeting_pc * 1000, trips * 1000, memory


def start_linux(program, machine):
    """Milliseconds to init."""
    command = [program, "-accel", "tcg", "-M", machine, "-m", "256", "-nodefaults", "-display", "none", "-serial",
        "stdio", "-kernel", ".cache/tiny/vmlinuz", "-initrd", ".cache/tiny/initrd.cpio.gz", "-append",
        "console=ttyS0 quiet"]
    start = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as guest:
        for line in guest.stdout:
            if b"TINY READY" in line:
                break
        taken = time.monotonic() - start
        guest.kill()
    return taken * 1000


has_tiny = os.path.exists(".cache/tiny/vmlinuz")


def measure_linux(program):
    if not has_tiny:
        return ()
    microvm = "microvm,acpi=off" if "qemu" in os.path.basename(program) else "microvm"
    return start_linux(program, microvm), start_linux(program, "pc")


results = {program: [] for program in programs}
for _ in range(runs):
    for program in programs:
        results[program].append(measure(program) + measure_linux(program))
names = ["greeting, -machine none, ms", "libvirt's probe, ms", "greeting, pc, ms", "10,000 round trips, ms",
    "memory of its own, KiB"] + (["Linux on microvm, ms", "Linux on pc, ms"] if has_tiny else [])
print(f"{'median of ' + str(runs):30}" + "".join(f"{os.path.basename(p):>22}" for p in programs))
for i, name in enumerate(names):
    print(f"{name:30}" + "".join(f"{statistics.median(r[i] for r in results[p]):22.1f}" for p in programs))
EOF
