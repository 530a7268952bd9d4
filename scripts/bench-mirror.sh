#!/bin/bash
# scripts/bench-mirror.sh: MiB/s of a mirror job until it is ready, of a disk of SIZE (default 1G) that a Linux guest
# writes to meanwhile, under out/qkvm and qemu-system-x86_64 in turns. The median of RUNS (default 3) counts; PLACE
# (default /dev/shm) is where the images lie.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."

runs=${RUNS:-3} size=${SIZE:-1G}
[ -e .cache/tiny/initrd.cpio.gz ] || images/tiny.sh .cache/tiny || fail "no tiny Linux guest"
need qemu-img:qemu-utils socat:socat cpio:cpio
work=$(mktemp -d -p "${PLACE:-/dev/shm}")
guest=
trap 'kill $guest 2>/dev/null; rm -rf "$work"' EXIT

mkdir "$work/root"
cat >"$work/root/writes" <<'END'
#!/bin/sh
echo WRITING
while :; do dd if=/dev/urandom of=/dev/vda bs=64k count=1 seek=$((RANDOM % 8192)) conv=fsync,notrunc 2>/dev/null; done
END
chmod +x "$work/root/writes"
(cd "$work/root" && find . | cpio --quiet -o -H newc -R 0:0) >"$work/initrd"
cat .cache/tiny/initrd.cpio.gz >>"$work/initrd"
bytes=$(numfmt --from=iec "$size")
head -c "$bytes" /dev/urandom >"$work/source.raw"

# speed EMULATOR FORMAT: of one job.
speed() {
    local source=$work/source.$2 target=$work/target.$2 begin
    rm -f "$target" "$work/qmp" "$work/output"
    qemu-img create -q -f "$2" "$target" "$size"
    "$1" -accel tcg -cpu max -m 256 -nodefaults -display none -serial "file:$work/output" \
        -qmp "unix:$work/qmp,server=on,wait=off" -kernel .cache/tiny/vmlinuz -initrd "$work/initrd" \
        -append "console=ttyS0 quiet tiny=/writes" -blockdev "$2,node-name=d,file.driver=file,file.filename=$source" \
        -blockdev "$2,node-name=t,file.driver=file,file.filename=$target" -device virtio-blk-pci,drive=d 2>/dev/null &
    guest=$!
    until grep -aq WRITING "$work/output" 2>/dev/null; do sleep 0.1; done
    sleep 1
    begin=$EPOCHREALTIME
    coproc qmp { exec socat - "unix:$work/qmp"; }
    cat >&"${qmp[1]}" <<'END'
{"execute":"qmp_capabilities"}
{"execute":"blockdev-mirror","arguments":{"job-id":"j","device":"d","target":"t","sync":"full"}}
END
    grep -qm1 BLOCK_JOB_READY <&"${qmp[0]}"
    awk -v a="$begin" -v b="$EPOCHREALTIME" -v n="$bytes" 'BEGIN { printf "%.0f\n", n / 1048576 / (b - a) }'
    kill "$guest"
    wait "$guest" "$qmp_PID" 2>/dev/null
}

median() { sort -n | sed -n "$(((runs + 1) / 2))p"; }

qemu-img convert -O qcow2 "$work/source.raw" "$work/source.qcow2"
emulators=(out/qkvm)
command -v qemu-system-x86_64 >/dev/null && emulators+=(qemu-system-x86_64)
printf '%-24s' "MiB/s, median of $runs"
printf '%20s' "${emulators[@]##*/}"
echo
for format in raw qcow2; do
    for ((run = 0; run < runs; run++)); do
        for i in "${!emulators[@]}"; do speed "${emulators[i]}" "$format" >>"$work/speeds.$i"; done
    done
    printf '%-24s' "$format"
    for i in "${!emulators[@]}"; do printf '%20s' "$(median <"$work/speeds.$i")"; rm "$work/speeds.$i"; done
    echo
done
