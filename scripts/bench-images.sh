#!/bin/bash
# scripts/bench-images.sh [OTHER_QKVM]: the image tool of out/qkvm, of another qkvm and qemu-img in turns: requests by
# `bench` into raw and preallocated qcow2, 4 KiB writes that allocate clusters, conversions of a disk of SIZE (default
# 1G) with data in three quarters of it, the memory of a conversion. The median of RUNS (default 3) counts; PLACE
# (default /var/tmp) is where the images lie.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."

runs=${RUNS:-3} size=${SIZE:-1G} place=${PLACE:-/var/tmp}
need qemu-img:qemu-utils

work=$(mktemp -d -p "$place")
trap 'rm -rf "$work"' EXIT

tools=("$PWD/out/qkvm img")
[ $# = 0 ] || tools+=("$1 img")
tools+=(qemu-img)

median() { sort -n | sed -n "$(((runs + 1) / 2))p"; }

# seconds COMMAND...: how long it takes.
seconds() {
    local begin=$EPOCHREALTIME
    "$@" >/dev/null || fail "$* failed"
    echo "$begin $EPOCHREALTIME" | awk '{ printf "%.3f\n", $2 - $1 }'
}

# row NAME PREPARE ARGUMENTS...: a line of the table; PREPARE is run before each run.
row() {
    local name=$1 prepare=$2 i run
    shift 2
    for ((run = 0; run < runs; run++)); do
        for i in "${!tools[@]}"; do
            $prepare
            seconds ${tools[i]} "$@" >>"$work/times.$i"
        done
    done
    printf '%-44s' "$name"
    for i in "${!tools[@]}"; do
        median <"$work/times.$i" >"$work/median.$i"
        printf '%14s' "$(cat "$work/median.$i")"
    done
    awk -v ours="$(cat "$work/median.0")" '{ printf "%14.2f\n", $1 / ours }' "$work/median.$((${#tools[@]} - 1))"
    rm "$work"/times.*
}

nothing() { :; }
fresh() { qemu-img create -q -f qcow2 "$work/new.qcow2" 4G; }
gone() { rm -f "$work"/to.*; }

step "make the images in $work"
dd if=/dev/urandom of="$work/noise" bs=1M count=256 status=none
base64 "$work/noise" >"$work/text"                               # compresses somewhat
qemu-img create -q -f raw "$work/a.raw" "$size"
bytes=$(stat -c %s "$work/a.raw") part=$((bytes / 4))
for i in 0 1 2; do
    source=$work/noise
    [ $i = 1 ] || source=$work/text
    dd if="$source" of="$work/a.raw" bs=1M seek=$((part * i >> 20)) count=$((part >> 20)) conv=notrunc status=none
done
qemu-img convert -f raw -O qcow2 "$work/a.raw" "$work/a.qcow2"
qemu-img create -q -f qcow2 -o preallocation=full "$work/pre.qcow2" 1G
qemu-img create -q -f raw -o preallocation=full "$work/pre.raw" 1G
sync

printf '%-44s' "seconds, median of $runs"
for tool in "${tools[@]}"; do printf '%14s' "$(basename "${tool% img}")"; done
printf '%14s\n' "times as fast"
for format in raw qcow2; do
    for depth in 1 64; do
        row "bench: read 4 KiB, $format, depth $depth" nothing bench -c 200000 -d "$depth" \
            -f "$format" "$work/pre.$format"
        row "bench: write 4 KiB, $format, depth $depth" nothing bench -w -c 100000 -d "$depth" -f "$format" \
            "$work/pre.$format"
    done
done
row "bench: write 4 KiB, empty qcow2, depth 32" fresh bench -w -c 20000 -d 32 -S 64k -f qcow2 "$work/new.qcow2"
row "bench: the same, neighbours" fresh bench -w -c 100000 -d 32 -f qcow2 "$work/new.qcow2"
row "convert qcow2 to raw" gone convert -f qcow2 -O raw "$work/a.qcow2" "$work/to.raw"
row "convert raw to qcow2" gone convert -f raw -O qcow2 "$work/a.raw" "$work/to.qcow2"
row "convert raw to qcow2, zlib" gone convert -c -f raw -O qcow2 "$work/a.raw" "$work/to.qcow2"
row "convert raw to qcow2, zstd" gone convert -c -f raw -O qcow2 -o compression_type=zstd "$work/a.raw" "$work/to.qcow2"

printf '%-44s' "convert qcow2 to raw: KiB of memory"
for tool in "${tools[@]}"; do
    gone
    command time -f %M -o "$work/memory" $tool convert -f qcow2 -O raw "$work/a.qcow2" "$work/to.raw"
    printf '%14s' "$(tail -1 "$work/memory")"
done
echo
