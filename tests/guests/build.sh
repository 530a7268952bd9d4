#!/bin/bash
# tests/guests/build.sh OUT_DIR: assembles the bare-metal test guests.
set -euo pipefail

out=${1:?usage: $0 OUT_DIR}
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../images/lib.sh"

need nasm:nasm ld:binutils
mkdir -p "$out"
step "bootsector.img, multiboot.bin, multiboot-low.bin, multiboot.elf, zimage.bin"
nasm -f bin -o "$out/bootsector.img" "$here/bootsector.asm"
nasm -f bin -o "$out/multiboot.bin" "$here/multiboot.asm"
nasm -f bin -DLOAD=0x8000 -o "$out/multiboot-low.bin" "$here/multiboot.asm"
nasm -f bin -o "$out/zimage.bin" "$here/zimage.asm"
nasm -f elf32 -o "$out/multiboot.o" "$here/multiboot.asm"
ld -m elf_i386 -n --no-warn-rwx-segments -Ttext=0x100000 -e start -o "$out/multiboot.elf" "$out/multiboot.o"
rm "$out/multiboot.o"
