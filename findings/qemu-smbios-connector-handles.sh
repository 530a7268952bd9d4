#!/bin/bash
# QEMU 7.2 (Debian 1:7.2+dfsg-7+deb12u18+b3): the SMBIOS structure of -smbios type=8 has the handle of type 0's.
#
# A handle is a structure's name, by which others refer to it, and the specification (DMTF DSP0134, section 6.1.2) wants
# each one to stand once in the table. QEMU gives each type a range of its own (4: 0x0400, 41: 0x2900 ...), but port
# connectors count from 0 on, where the BIOS information of -smbios type=0 stands. Who looks either up by its handle may
# find the other.
#
# The table is read as a guest would, from the firmware configuration device, through QEMU's test interface.
#
# Seen:
#   type 0: handles 0x0000
#   type 8: handles 0x0000 0x0001
#   type 41: handles 0x2900 0x2901
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

coproc qemu { "$root/lib64/ld-linux-x86-64.so.2" --library-path "$libraries" \
    "$root/usr/bin/qemu-system-x86_64" -L "$root/usr/share/seabios" -L "$root/usr/share/qemu" -S -nodefaults \
    -display none -qtest stdio -qtest-log /dev/null \
    -smbios type=0,vendor=V -smbios type=8,internal_reference=A -smbios type=8,internal_reference=B \
    -smbios type=41,designation=C -smbios type=41,designation=D 2>/dev/null; }

ask() { echo "$*" >&"${qemu[1]}"; read -r _ answer <&"${qemu[0]}"; }
# bytes N: the next ones of the item, as decimal numbers.
bytes() { taken=(); for ((i = 0; i < $1; i++)); do ask inb 0x511; taken+=($((answer))); done; }
select_item() { ask outw 0x510 "$1"; }

# The directory: a count, then 64 bytes for each file: size, key, name. All numbers are big-endian.
select_item 0x19
bytes 4
count=$((taken[2] << 8 | taken[3]))
for ((file = 0; file < count; file++)); do
    bytes 64
    name=
    for code in "${taken[@]:8}"; do [ "$code" = 0 ] && break; name+=$(printf "\\x$(printf %x "$code")"); done
    [ "$name" = etc/smbios/smbios-tables ] || continue
    size=$((taken[0] << 24 | taken[1] << 16 | taken[2] << 8 | taken[3])) key=$((taken[4] << 8 | taken[5]))
done
select_item "$key"
bytes "$size"
kill "$qemu_PID"

# Structures: type, length and handle, what the length says, and strings up to two zeros.
declare -A handles
for ((at = 0; at < size; )); do
    type=${taken[at]} next=$((at + taken[at + 1]))
    handles[$type]+=$(printf ' 0x%04x' $((taken[at + 2] | taken[at + 3] << 8)))
    while ((taken[next] | taken[next + 1])); do next=$((next + 1)); done
    at=$((next + 2))
done
for type in 0 8 41; do echo "type $type: handles${handles[$type]}"; done
[ "${handles[0]}" = " 0x0000" ] && [ "${handles[8]}" = " 0x0000 0x0001" ] && [ "${handles[41]}" = " 0x2900 0x2901" ]
