#!/bin/bash
# scripts/soak-kills.sh [ROUNDS]: a Linux guest writes files and flushes them until its qkvm is killed (SIGKILL) at a
# random moment, ROUNDS (default 200) times: on raw and qcow2, on an image that is streamed, committed, mirrored or
# backed up at the time, on virtio-blk, virtio-scsi, NVMe and IDE in turns. After each kill the images are checked, and
# the file system is mounted, has all files that were flushed with their sums, and is clean. Needs root, for the mount.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."

rounds=${1:-200} ours=${QKVM:-out/qkvm} seed=${SEED:-$$}
[ -e .cache/tiny/initrd.cpio.gz ] || images/tiny.sh .cache/tiny || fail "no tiny Linux guest"
need qemu-img:qemu-utils cpio:cpio socat:socat mkfs.ext4:e2fsprogs

kinds=(raw qcow2 stream commit mirror backup) controllers=(virtio-blk-pci scsi-hd nvme ide-hd)
RANDOM=$seed
work=$(mktemp -d)
guest=
trap 'kill -9 $guest 2>/dev/null; umount "$work/mnt" 2>/dev/null; rm -rf "$work"' EXIT
echo "seed $seed"

mkdir "$work/root" "$work/mnt"
cat >"$work/root/soak" <<'END'
#!/bin/sh
modprobe sd_mod
until [ -n "$disk" ]; do
    for name in vda sda nvme0n1; do [ ! -b /dev/$name ] || disk=/dev/$name; done
done
mount -t ext4 $disk /mnt || exit
rm -f /mnt/f*
for number in $(seq 100000); do
    dd if=/dev/urandom of=/mnt/f$number bs=1k count=$((RANDOM % 300 + 1)) 2>/dev/null
    sum=$(md5sum </mnt/f$number)
    sync
    echo "SYNCED f$number $sum"
    rm -f /mnt/f$((number - 40))
done
END
chmod +x "$work/root/soak"
(cd "$work/root" && find . | cpio --quiet -o -H newc -R 0:0) >"$work/initrd"
cat .cache/tiny/initrd.cpio.gz >>"$work/initrd"

truncate -s 96M "$work/fs.raw"
mkfs.ext4 -q "$work/fs.raw"

# qmp COMMAND...: each as JSON, in one connection.
qmp() { { printf '%s\n' '{"execute":"qmp_capabilities"}' "$@"; sleep 0.2; } | socat -t 1 - "unix:$work/qmp"; }

job() {
    local more='"job-id":"j","device":"top","speed":8388608'
    case $1 in
    stream) qmp "{\"execute\":\"block-stream\",\"arguments\":{$more}}" ;;
    commit) qmp "{\"execute\":\"block-commit\",\"arguments\":{$more}}" ;;
    mirror) qmp "{\"execute\":\"blockdev-mirror\",\"arguments\":{$more,\"target\":\"copy\",\"sync\":\"full\"}}" ;;
    backup) qmp "{\"execute\":\"blockdev-backup\",\"arguments\":{$more,\"target\":\"copy\",\"sync\":\"full\"}}" ;;
    esac
}

# judge ROUND: the guest's disk after the kill, made one raw file.
judge() {
    local file sum name bad=0
    for file in "$work"/*.qcow2; do
        [ -e "$file" ] || continue
        qemu-img check -q "$file" >"$work/check" 2>&1 || [ $? = 3 ] || { cat "$work/check"; return 1; }
    done
    [ "$image" = "$work/fs.raw" ] || qemu-img convert -O raw "$image" "$work/fs.raw" || return 1
    mount -o loop "$work/fs.raw" "$work/mnt" || return 1
    while read -r _ name sum _; do
        [ "$(md5sum <"$work/mnt/$name" | cut -d' ' -f1)" = "$sum" ] || { echo "$name is not as it was flushed"; bad=1; }
    done < <(tr -d '\r' <"$work/output" | grep -a '^SYNCED f[0-9]* [0-9a-f]\{32\}  -$' | tail -30)
    umount "$work/mnt"
    e2fsck -fn "$work/fs.raw" >"$work/check" 2>&1 || { cat "$work/check"; return 1; }
    return $bad
}

passed=0 failed=0 flushed=0
for ((round = 0; round < rounds; round++)); do
    kind=${kinds[round % ${#kinds[@]}]} controller=${controllers[round / ${#kinds[@]} % ${#controllers[@]}]}
    rm -f "$work"/*.qcow2
    image=$work/top.qcow2 format=qcow2 more=()
    case $kind in
    raw) image=$work/fs.raw format=raw ;;
    qcow2) qemu-img convert -O qcow2 "$work/fs.raw" "$image" ;;
    *)
        qemu-img convert -O qcow2 "$work/fs.raw" "$work/base.qcow2"
        qemu-img create -q -f qcow2 -b "$work/base.qcow2" -F qcow2 "$image"
        qemu-img create -q -f qcow2 "$work/copy.qcow2" 96M
        more=(-blockdev "qcow2,node-name=copy,file.driver=file,file.filename=$work/copy.qcow2")
        ;;
    esac
    [ "$controller" != scsi-hd ] || more+=(-device virtio-scsi-pci)
    device=$controller,drive=top
    [ "$controller" != nvme ] || device+=,serial=1
    rm -f "$work/qmp"
    "$ours" -accel tcg -cpu max -m 256 -nodefaults -display none -serial "file:$work/output" -no-reboot \
        -qmp "unix:$work/qmp,server=on,wait=off" -kernel .cache/tiny/vmlinuz -initrd "$work/initrd" \
        -append "console=ttyS0 quiet panic=-1 tiny=/soak" \
        -blockdev "$format,node-name=top,file.driver=file,file.filename=$image" "${more[@]}" -device "$device" &
    guest=$!
    for _ in $(seq 600); do
        grep -aq ^SYNCED "$work/output" 2>/dev/null && break
        sleep 0.1
    done
    job "$kind" >"$work/answers" 2>&1
    sleep "$((RANDOM % 3)).$((RANDOM % 1000))"
    kill -9 "$guest"
    wait "$guest" 2>/dev/null
    count=$(grep -ac ^SYNCED "$work/output")
    flushed=$((flushed + count))
    if [ "$count" = 0 ] || grep -q '"error"' "$work/answers"; then
        echo "round $round $kind $controller: the guest or the job did not begin"
        cat "$work/answers"
        tail -3 "$work/output"
        failed=$((failed + 1))
    elif judge; then passed=$((passed + 1))
    else
        echo "round $round $kind $controller: FAILED"
        failed=$((failed + 1))
        mkfs.ext4 -qF "$work/fs.raw"
    fi
    rm -f "$work/output"
done
echo "$flushed files flushed; $passed passed, $failed failed"
