#!/bin/bash
# scripts/bench-storage.sh [OTHER_QKVM]: 4 KiB random reads of fio at depth 32 on a virtio disk, in a Debian guest on
# the software CPU, under out/qkvm, another qkvm and qemu-system-x86_64 in turns: raw and preallocated qcow2, in tmpfs
# and on disk. The median of RUNS (default 3) counts; SECONDS_EACH (default 5), SMP (default 1), DEPTH (default 32).
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."

other=${1:-} runs=${RUNS:-3} seconds=${SECONDS_EACH:-5} smp=${SMP:-1} depth=${DEPTH:-32}
[ -e .cache/tiny/initrd.cpio.gz ] || images/tiny.sh .cache/tiny || fail "no tiny Linux guest"
[ -e .cache/fio/initrd.cpio ] || images/program.sh .cache/fio fio || fail "no fio"
need qemu-img:qemu-utils

work=$(mktemp -d) memory=$(mktemp -d -p /dev/shm)
trap 'rm -rf "$work" "$memory"' EXIT
cat .cache/fio/initrd.cpio .cache/tiny/initrd.cpio.gz >"$work/initrd" # an uncompressed part comes first
dd if=/dev/urandom of="$work/disk.raw" bs=1M count=256 status=none
qemu-img convert -f raw -O qcow2 -o preallocation=falloc "$work/disk.raw" "$work/disk.qcow2"
cp "$work"/disk.* "$memory"

# rate EMULATOR IMAGE: reads a second, or nothing.
rate() {
    timeout 300 "$1" -accel tcg -cpu max -smp "$smp" -m 1G -nodefaults -display none -serial stdio \
        -monitor none -no-reboot \
        -kernel .cache/tiny/vmlinuz -initrd "$work/initrd" \
        -append "console=ttyS0 quiet panic=-1 rdinit=/fio-init fio.seconds=$seconds fio.depth=$depth" \
        -drive "file=$2,format=${2##*.},if=none,id=d" -device virtio-blk-pci,drive=d </dev/null 2>/dev/null |
        sed -n 's/^FIO reads=\([0-9]*\).*/\1/p'
}

median() { sort -n | sed -n "$(((runs + 1) / 2))p"; }

emulators=(out/qkvm)
[ -z "$other" ] || emulators+=("$other")
command -v qemu-system-x86_64 >/dev/null && emulators+=(qemu-system-x86_64)
printf '%-24s' "reads/s, median of $runs"
for emulator in "${emulators[@]}"; do printf '%22s' "$(basename "$emulator")"; done
echo
for image in "$memory/disk.raw" "$memory/disk.qcow2" "$work/disk.raw" "$work/disk.qcow2"; do
    place=disk
    [ "${image#"$memory"}" = "$image" ] || place=tmpfs
    for ((run = 0; run < runs; run++)); do
        for i in "${!emulators[@]}"; do rate "${emulators[i]}" "$image" >>"$work/rates.$i"; done
    done
    printf '%-24s' "${image##*.} $place"
    for i in "${!emulators[@]}"; do
        printf '%22s' "$(median <"$work/rates.$i")"
        rm "$work/rates.$i"
    done
    echo
done
