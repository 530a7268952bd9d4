#!/bin/bash
# scripts/bench-9p.sh [OTHER_QKVM]: small files in a folder that a Linux guest on the software CPU shares with the host
# by virtio-9p: made, asked for their status, read, listed and removed, so many a second, under out/qkvm, another qkvm
# and qemu-system-x86_64 in turns. The median of RUNS (default 3) counts; FILES (default 1500), MODEL (security model,
# default mapped-xattr), CACHE (of the guest, default none), MSIZE (default 512000). The folder is in memory, in
# /dev/shm, where that keeps attributes of users (Linux 6.6): ext4 looks long for inodes where many went before.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."

need gcc:gcc cpio:cpio setfattr:attr
cards=.cache/cards
[ -e $cards/initrd.cpio.gz ] || images/tiny.sh $cards generic || fail "no tiny Linux guest with all drivers"
runs=${RUNS:-3} files=${FILES:-1500} model=${MODEL:-mapped-xattr} cache=${CACHE:-none} msize=${MSIZE:-512000}

work=$(mktemp -d)
shared=$(mktemp -d -p /dev/shm)
trap 'rm -rf "$work" "$shared"' EXIT
setfattr -n user.test -v 1 "$shared" 2>/dev/null || { rm -rf "$shared"; shared=$work/shared; }
mkdir -p "$work/root" "$shared"
gcc -O2 -static -Wall -o "$work/root/smallfiles" tests/guests/smallfiles.c || fail "smallfiles does not build"
cat >"$work/root/run" <<END
#!/bin/sh
modprobe -a 9p 9pnet_virtio
mount -t 9p -o trans=virtio,version=9p2000.L,msize=$msize,cache=$cache host /mnt && /smallfiles /mnt $files
END
chmod +x "$work/root/run"
(cd "$work/root" && find . | cpio --quiet -o -H newc) >"$work/initrd"
cat $cards/initrd.cpio.gz >>"$work/initrd" # an uncompressed part comes first

# measure EMULATOR: "what rate" lines.
measure() {
    timeout 900 "$1" -accel tcg -cpu max -m 512 -nodefaults -display none -serial stdio -monitor none -no-reboot \
        -kernel $cards/vmlinuz -initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1 tiny=/run" \
        -virtfs "local,path=$shared,mount_tag=host,security_model=$model" </dev/null 2>"$work/errors" |
        tr -d '\r' | tee -a "${LOG:-/dev/null}" | sed -n 's/^RATE //p'
    [ ! -s "$work/errors" ] || cat "$work/errors" >&2
    rm -rf "$shared/small"
}

median() { sort -n | sed -n "$(((runs + 1) / 2))p"; }

emulators=(out/qkvm)
[ -z "${1:-}" ] || emulators+=("$1")
command -v qemu-system-x86_64 >/dev/null && emulators+=(qemu-system-x86_64)
for ((run = 0; run < runs; run++)); do
    for i in "${!emulators[@]}"; do measure "${emulators[i]}" >>"$work/results.$i"; done
done

printf '%-24s' "a second, median of $runs"
for emulator in "${emulators[@]}"; do printf '%22s' "$(basename "$emulator")"; done
echo
for what in create stat read list unlink; do
    printf '%-24s' "$what"
    for i in "${!emulators[@]}"; do
        printf '%22s' "$(awk -v what=$what '$1 == what { print $2 }' "$work/results.$i" | median)"
    done
    echo
done
