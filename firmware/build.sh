#!/bin/bash
# firmware/build.sh OUT_DIR: assembles our option ROMs, and copies Debian's SeaBIOS and VGA BIOSes next to them.
set -euo pipefail

out=${1:?usage: $0 OUT_DIR}
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"

need nasm:nasm /usr/share/seabios/bios-256k.bin:seabios
mkdir -p "$out"

# set_checksum FILE START LENGTH AT: make the bytes from START sum up to 0 (mod 256) by means of the byte AT.
set_checksum() {
    local sum
    sum=$(od -An -v -tu1 -j "$2" -N "$3" "$1" | awk '{ for (i = 1; i <= NF; i++) sum += $i } END { print sum % 256 }')
    printf "\\x$(printf %02x $(((256 - sum) % 256)))" | dd of="$1" bs=1 seek="$4" conv=notrunc status=none
}

for rom in linuxboot multiboot; do
    step "assemble $rom"
    nasm -f bin -w+all -I "$here/" -o "$out/$rom.bin" "$here/$rom.asm"
    [ "$(od -An -tu1 -j $(($(stat -c %s "$out/$rom.bin") - 1)) -N 1 "$out/$rom.bin")" -eq 0 ] ||
        fail "$rom fills its last byte, where the checksum goes"
    set_checksum "$out/$rom.bin" 32 32 41                                  # the PnP header's, at its offset 9
    set_checksum "$out/$rom.bin" 0 "$(stat -c %s "$out/$rom.bin")" $(($(stat -c %s "$out/$rom.bin") - 1))
done

step "copy SeaBIOS and its VGA BIOSes"
cp /usr/share/seabios/{bios,bios-256k,bios-microvm,vgabios*}.bin "$out"
