#!/bin/bash
# scripts/compare-cpuid.sh [MODEL...]: what CPUID tells a guest under QEMU and under out/qkvm, for each model of -cpu
# help (or those given, with their features: EPYC,+svm). A guest program (tests/guests/cpuid.asm) prints all leaves on
# all processors; each line here is a register that differs, with its models. ACCEL=kvm compares the two under KVM.
# SMP=4,sockets=2,cores=2 is the topology. WITH=PROGRAM is another qkvm. Exits with 1 where anything differs that
# docs/decisions.md does not name (its section "CPUID beside QEMU's" has the patterns).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
need qemu-system-x86_64:qemu-system-x86 nasm:nasm python3:python3
exec python3 - "$here/.." "$@" <<'END'
import fnmatch, os, re, subprocess, sys, tempfile

home, wanted = sys.argv[1], sys.argv[2:]
qkvm = os.environ.get("WITH", home + "/out/qkvm")
accel, smp = os.environ.get("ACCEL", "tcg"), os.environ.get("SMP", "1")
work = tempfile.TemporaryDirectory()


def cpus(text):
    parts = dict(part.split("=") if "=" in part else ("cpus", part) for part in text.split(","))
    if "cpus" in parts: return int(parts["cpus"])
    total = 1
    for key in ("sockets", "dies", "cores", "threads"): total *= int(parts.get(key, 1))
    return total


image = work.name + "/cpuid.bin"
subprocess.run(["nasm", "-f", "bin", f"-DCPUS={cpus(smp)}", "-o", image, home + "/tests/guests/cpuid.asm"], check=True)


def dump(program, model):
    """{(apic, leaf, subleaf): (eax, ebx, ecx, edx)}, or None where the machine did not begin."""
    out = work.name + "/out"
    if os.path.exists(out): os.remove(out)
    done = subprocess.run([program, "-machine", "q35", "-accel", accel, "-cpu", model, "-smp", smp, "-m", "64",
        "-nodefaults", "-display", "none", "-bios", image, "-serial", "file:" + out, "-device",
        "isa-debug-exit,iobase=0xf4"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=120)
    if done.returncode & 1 == 0 or done.returncode == 1 and not os.path.exists(out):
        print(f"{os.path.basename(program)} -cpu {model}: {done.stderr.strip()}")
        return None
    rows = {}
    for line in open(out):
        words = [int(word, 16) for word in line.split()]
        if len(words) == 7: rows[tuple(words[:3])] = tuple(words[3:])
    return rows


# Bits' names, in the order of CpuidWord.
source = open(home + "/src/Qkvm.Accel/Tcg/Model/CpuFeatures.cs").read()
strings = re.findall(r'"([^"]*)"', source[source.index("Names =\n"):source.index("s_places")])
places = [(1, 0, 3), (1, 0, 2), (7, 0, 1), (7, 0, 2), (7, 0, 3), (0x80000001, 0, 3), (0x80000001, 0, 2),
    (0x80000007, 0, 3), (0x80000008, 0, 1), (13, 1, 0), (6, 0, 0), (7, 1, 0), (0x40000001, 0, 0), (0x80000021, 0, 0),
    (0x8000000A, 0, 3)]
names = {place: [name.split("|")[0] for name in strings[i * 32:i * 32 + 32]] for i, place in enumerate(places)}
REGISTERS = ["EAX", "EBX", "ECX", "EDX"]


def difference(leaf, sub, register, theirs, ours):
    """Names of features with + where only qkvm has them; of other registers, nothing."""
    place = (leaf, sub, register)
    if place not in names or leaf == 0x40000001: return [""]
    return [f"{'+' if ours >> bit & 1 else '-'}{names[place][bit] or f'bit{bit}'}"
        for bit in range(32) if (theirs ^ ours) >> bit & 1]


if not wanted:
    help_text = subprocess.run(["qemu-system-x86_64", "-cpu", "help"], capture_output=True, text=True).stdout
    lines = [line.split() for line in help_text.split("Recognized")[0].splitlines() if line.startswith("x86 ")]
    wanted = [words[1] for words in lines if words[2:3] != ["(alias"]
        and (accel == "kvm" or words[1] != "host") and words[1] != "base"]

groups, examples, alone = {}, {}, []
for model in wanted:
    theirs = dump("qemu-system-x86_64", model)
    ours = dump(qkvm, model)
    if theirs is None and ours is not None:
        alone.append(model)
        continue
    if ours is None:
        groups.setdefault(("begins", ""), set()).add(model)
        continue
    zero = (0, 0, 0, 0)
    for key in sorted(theirs.keys() | ours.keys()):
        apic, leaf, sub = key
        a, b = theirs.get(key, zero), ours.get(key, zero)
        for register in range(4):
            if a[register] == b[register]: continue
            place = f"{leaf:X}.{sub} {REGISTERS[register]}"
            for what in difference(leaf, sub, register, a[register], b[register]):
                groups.setdefault((place, what), set()).add(model)
                examples.setdefault((place, what), f"{a[register]:X} -> {b[register]:X} on {apic:X}")

decisions = open(home + "/docs/decisions.md").read()
patterns = []
if "## CPUID beside QEMU's" in decisions:
    section = decisions[decisions.index("## CPUID beside QEMU's"):][2:].split("\n## ")[0]
    patterns = re.findall(r"`([^`]+)`", section)


def explained(place, what):
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns
        for text in (what, place, place.split(" ")[0]) if text)


unexplained = 0
for (place, what), models in sorted(groups.items()):
    known = explained(place, what)
    unexplained += not known
    example = what or f"({examples.get((place, what), '')})"
    who = "all" if len(models) == len(wanted) - len(alone) else " ".join(sorted(models))
    print(f"{' ' if known else '!'} {place} {example}: {who}")
if alone: print(f"not compared, as QEMU's does not begin here: {' '.join(alone)}")
print(f"{len(wanted) - len(alone)} models with -accel {accel} -smp {smp}: {len(groups)} differences, {unexplained} "
    "of them without a reason in docs/decisions.md")
sys.exit(unexplained != 0)
END
