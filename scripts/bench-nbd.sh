#!/bin/bash
# scripts/bench-nbd.sh [MIB]: how fast a raw image in the page cache is served by out/qkvm nbd, qemu-nbd and nbdkit,
# read by nbdcopy. Three rounds of each in turn, in MiB/s.
set -euo pipefail
cd "$(dirname "$0")/.."
for program in nbdcopy nbdkit qemu-nbd; do
    command -v "$program" >/dev/null && continue
    echo "skipped: $program is not installed (Debian: libnbd-bin nbdkit qemu-utils)"
    exit 0
done
size=${1:-1024}
scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/qkvm-nbd.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
head -c "${size}M" /dev/urandom >"$scratch/disk"
socket=$scratch/s

# measure NAME COMMAND…: of a server that listens at the socket.
measure() {
    local name=$1 server begin end
    shift
    rm -f "$socket"
    "$@" &
    server=$!
    while [ ! -S "$socket" ]; do sleep 0.05; done
    nbdcopy "nbd+unix:///?socket=$socket" null:
    begin=$(date +%s%N)
    nbdcopy "nbd+unix:///?socket=$socket" null:
    end=$(date +%s%N)
    kill "$server"
    wait "$server" 2>/dev/null || true
    printf '%-10s %6d MiB/s\n' "$name" $((size * 1000000000 / (end - begin)))
}

for _ in 1 2 3; do
    measure qemu-nbd qemu-nbd -f raw -t -e 8 -k "$socket" "$scratch/disk"
    measure nbdkit nbdkit -f -U "$socket" file "$scratch/disk"
    measure qkvm out/qkvm nbd -f raw -t -e 8 -k "$socket" "$scratch/disk"
done
