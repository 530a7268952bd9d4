#!/bin/bash
# QEMU 7.2 (Debian 1:7.2+dfsg-7+deb12u18+b3): where the only latency that -numa hmat-lb gives is 0, the unit in which
# the ACPI table HMAT counts is 4,294,966,296 picoseconds, more than four milliseconds.
#
# 0 is a legal entry, "nothing is known" (ACPI 6.5, section 5.2.27.4), and leaves the unit open; who looks at the
# unit alone finds a number that nobody gave: minus 1000, cut to 32 bits. With one latency of 10 ns it is 10,000.
#
# The table is read as a guest would, from the firmware configuration device, through QEMU's test interface.
#
# Seen:
#   latency=0: unit 0x00000000fffffc18
#   latency=10: unit 0x0000000000002710
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/debs/partial" "$work/root"
: >"$work/status"
apt-get -qq -y --no-install-recommends --download-only -o Dir::State::status="$work/status" \
    -o Dir::Cache::archives="$work/debs" -o APT::Sandbox::User=root install \
    'qemu-system-x86=1:7.2+dfsg-7+deb12u18+b3' 'seabios=1.16.2-1' >/dev/null
for package in "$work"/debs/*.deb; do dpkg-deb -x "$package" "$work/root"; done

root=$work/root
export QEMU_MODULE_DIR=$root/usr/lib/x86_64-linux-gnu/qemu
libraries=$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu
for directory in "$root"/usr/lib/x86_64-linux-gnu/*/; do libraries=$libraries:$directory; done

ask() { echo "$*" >&"${qemu[1]}"; read -r _ answer <&"${qemu[0]}"; }
# bytes N: the next ones of the item, as decimal numbers.
bytes() { taken=(); for ((i = 0; i < $1; i++)); do ask inb 0x511; taken+=($((answer))); done; }
select_item() { ask outw 0x510 "$1"; }

# unit LATENCY: what HMAT says an entry counts in.
unit() {
    coproc qemu { "$root/lib64/ld-linux-x86-64.so.2" --library-path "$libraries" \
        "$root/usr/bin/qemu-system-x86_64" -L "$root/usr/share/seabios" -L "$root/usr/share/qemu" -S -nodefaults \
        -display none -qtest stdio -qtest-log /dev/null -machine pc,hmat=on -m 128 \
        -object memory-backend-ram,id=m,size=128M -numa node,nodeid=0,cpus=0,memdev=m,initiator=0 \
        -numa hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-latency,latency="$1" 2>/dev/null; }
    # The directory: a count, then 64 bytes for each file: size, key, name. All numbers are big-endian.
    select_item 0x19
    bytes 4
    local count=$((taken[2] << 8 | taken[3])) file name size key code
    for ((file = 0; file < count; file++)); do
        bytes 64
        name=
        for code in "${taken[@]:8}"; do [ "$code" = 0 ] && break; name+=$(printf "\\x$(printf %x "$code")"); done
        [ "$name" = etc/acpi/tables ] || continue
        size=$((taken[0] << 24 | taken[1] << 16 | taken[2] << 8 | taken[3])) key=$((taken[4] << 8 | taken[5]))
    done
    select_item "$key"
    bytes "$size"
    kill "$qemu_PID"
    wait "$qemu_PID" 2>/dev/null || true
    # Tables follow each other: a name, a length; in HMAT, after 40 bytes, structures: type, -, length; in those of type
    # 1 the unit is the qword at 24.
    local text at length
    text=$(printf '%02x' "${taken[@]}")
    at=${text%%484d4154*} at=$((${#at} / 2 + 40))
    while [ "$((taken[at]))" != 1 ]; do
        length=$((taken[at + 4] | taken[at + 5] << 8)) at=$((at + length))
    done
    for i in 7 6 5 4 3 2 1 0; do printf '%02x' "${taken[at + 24 + i]}"; done
}

nothing=$(unit 0) ten=$(unit 10)
echo "latency=0: unit 0x$nothing"
echo "latency=10: unit 0x$ten"
[ "$nothing" = 00000000fffffc18 ] && [ "$ten" = 0000000000002710 ]
