#!/bin/bash
# scripts/bench-guestfs.sh: libguestfs on out/qkvm and on qemu-system-x86_64 in turns, both with their software CPU:
# seconds of libguestfs-test-tool, and of guestfish making, filling and reading a file system of 1 GiB. Medians of RUNS
# (default 3). QKVM=PROGRAM is the emulator. Needs libguestfs-tools, qemu-system-x86, and a kernel for libguestfs'
# appliance: linux-image-amd64.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/libvirt/lib.sh

for tool in libguestfs-test-tool:libguestfs-tools guestfish:libguestfs-tools qemu-system-x86_64:qemu-system-x86 \
    python3:python3; do
    command -v "${tool%:*}" >/dev/null || skip "needs ${tool%:*} (apt install ${tool#*:})"
done
[ -n "${SUPERMIN_KERNEL:-}" ] || ls /boot/vmlinuz-* >/dev/null 2>&1 \
    || skip "needs a kernel (apt install linux-image-amd64, or set SUPERMIN_KERNEL and SUPERMIN_MODULES)"
[ -x "${QKVM:-out/qkvm}" ] || skip "needs ${QKVM:-out/qkvm}: make"

work=$(mktemp -d -p /var/tmp)
trap 'rm -rf "$work"' EXIT
export LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg LC_ALL=C
python3 - "$work" "$(realpath "${QKVM:-out/qkvm}")" "${RUNS:-3}" <<'PYTHON'
import os, statistics, subprocess, sys, time

work, runs = sys.argv[1], int(sys.argv[3])
programs = {"qkvm": sys.argv[2], "qemu": "/usr/bin/qemu-system-x86_64"}
fish = f"""sparse {work}/disk.img 1G
run
mkfs ext4 /dev/sda
mount /dev/sda /
fill 90 200M /file
checksum md5 /file
umount /
"""


def seconds(program, command, text, expected):
    """Wall time, and that of the processors."""
    before, begin = os.times(), time.monotonic()
    ended = subprocess.run(command, input=text, capture_output=True, text=True, timeout=900,
        env=os.environ | {"LIBGUESTFS_HV": program})
    took, after = time.monotonic() - begin, os.times()
    if ended.returncode or expected not in ended.stdout + ended.stderr:
        sys.exit(f"{command[0]} with {program}: {(ended.stdout + ended.stderr)[-500:]}")
    return took, sum(after[2:4]) - sum(before[2:4])


jobs = {"libguestfs-test-tool": (["libguestfs-test-tool"], "", "TEST FINISHED OK"),
    "guestfish, a file system of 1 GiB": (["guestfish"], fish, "1c9c1d768f3bc96821ecb9d021fa4d3a")}
print(f"load {os.getloadavg()[0]:.1f} at the beginning; medians of {runs}, seconds, and seconds of processors")
print(f"{'':36}{'qkvm':>8}{'qemu':>8}{'':8}{'qkvm':>8}{'qemu':>8}")
for program in programs.values():                                  # libguestfs asks the emulator once
    seconds(program, ["guestfish", "-a", "/dev/null", "run"], "", "")
for name, (command, text, expected) in jobs.items():
    results = {p: [] for p in programs}
    for _ in range(runs):
        for p, program in programs.items(): results[p].append(seconds(program, command, text, expected))
    line = f"{name:36}"
    for kind in range(2):
        a, b = (statistics.median(r[kind] for r in results[p]) for p in programs)
        line += f"{a:8.1f}{b:8.1f}{b / a:6.2f} x"
    print(line, flush=True)
print(f"load {os.getloadavg()[0]:.1f} at the end")
PYTHON
