#!/bin/bash
# scripts/bench-storage.sh [CONTROLLER...]: fio on a disk of each controller (virtio-blk virtio-scsi nvme ide ahci), raw
# and qcow2, in a Linux guest on the software CPU, under out/qkvm, $OTHER and qemu-system-x86_64 in turns: 4 KiB at
# random places at depth 32 and 1 MiB one after the other, read and written. The median of RUNS (default 3) counts;
# SECONDS_EACH (default 3), SMP (default 1), IMAGES (default "raw qcow2"), PLACE (default /dev/shm) is where they lie.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."

[ $# != 0 ] || set -- virtio-blk virtio-scsi nvme ide ahci
runs=${RUNS:-3} seconds=${SECONDS_EACH:-3} smp=${SMP:-1}
jobs=${JOBS:-randread:4k:32,randwrite:4k:32,read:1M:4,write:1M:4}
[ -e .cache/cards/initrd.cpio.gz ] || images/tiny.sh .cache/cards generic || fail "no tiny Linux guest"
images/program.sh .cache/fio fio || fail "no fio"
need qemu-img:qemu-utils

work=$(mktemp -d -p "${PLACE:-/dev/shm}")
trap 'rm -rf "$work"' EXIT
cat .cache/fio/initrd.cpio .cache/cards/initrd.cpio.gz >"$work/initrd" # an uncompressed part comes first
dd if=/dev/urandom of="$work/disk.raw" bs=1M count=256 status=none
qemu-img convert -f raw -O qcow2 -o preallocation=falloc "$work/disk.raw" "$work/disk.qcow2"

# rates EMULATOR CONTROLLER IMAGE: one line for each job, its name and requests a second.
rates() {
    local machine=pc device=()
    case $2 in
    virtio-blk) device=(-device virtio-blk-pci,drive=d) ;;
    virtio-scsi) device=(-device virtio-scsi-pci -device scsi-hd,drive=d) ;;
    nvme) device=(-device nvme,serial=1,drive=d) ;;
    ide) device=(-device ide-hd,drive=d) ;;
    ahci) device=(-device ide-hd,drive=d) machine=q35 ;;
    *) fail "$2: expected virtio-blk, virtio-scsi, nvme, ide or ahci" ;;
    esac
    timeout 300 "$1" -M "$machine" -accel tcg -cpu max -smp "$smp" -m 1G -nodefaults -display none -serial stdio \
        -monitor none -no-reboot -kernel .cache/cards/vmlinuz -initrd "$work/initrd" \
        -append "console=ttyS0 quiet panic=-1 rdinit=/fio-init fio.seconds=$seconds fio.jobs=$jobs" \
        -drive "file=$3,format=${3##*.},if=none,id=d" "${device[@]}" </dev/null 2>"$work/errors" |
        sed -n 's/^FIO \([^ ]*\) rate=\([0-9]*\).*/\1 \2/p'
    [ ! -s "$work/errors" ] || cat "$work/errors" >&2
}

# median FILE JOB: of the job's rates.
median() { sed -n "s/^$2 //p" "$1" | sort -n | sed -n "$(((runs + 1) / 2))p"; }

emulators=(out/qkvm)
[ -z "${OTHER:-}" ] || emulators+=("$OTHER")
command -v qemu-system-x86_64 >/dev/null && emulators+=(qemu-system-x86_64)
printf '%-36s' "requests/s, median of $runs"
for emulator in "${emulators[@]}"; do printf '%20s' "$(basename "$emulator")"; done
printf '%8s\n' times
for controller; do
    for format in ${IMAGES:-raw qcow2}; do
        rm -f "$work"/rates.*
        for ((run = 0; run < runs; run++)); do
            for i in "${!emulators[@]}"; do
                rates "${emulators[i]}" "$controller" "$work/disk.$format" >>"$work/rates.$i"
            done
        done
        for job in ${jobs//,/ }; do
            printf '%-36s' "$controller $format $job"
            for i in "${!emulators[@]}"; do
                rate=$(median "$work/rates.$i" "$job")
                printf '%20s' "${rate:-none}"
                [ "$i" = 0 ] && first=${rate:-0}
            done
            awk -v a="$first" -v b="${rate:-0}" 'BEGIN { printf "%8.2f\n", b ? a / b : 0 }'
        done
    done
done
