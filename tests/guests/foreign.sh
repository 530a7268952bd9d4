#!/bin/bash
# tests/guests/foreign.sh OUTPUT_DIR [more]
# Makes disks of systems beside Linux, and of boot loaders, out of Debian 12's packages, which are only unpacked:
# U-Boot, Memtest86+, Xen, iPXE, GRUB, SYSLINUX, ISOLINUX, systemd-boot. With "more" those too that only hand-run tests
# boot: GNU Mach, GRUB's rescue CD, Debian's installer (240 MB). docs/foreign-systems.md lists them. No loop devices are
# needed. The loaders start the tiny Linux of .cache/tiny, Xen that of .cache/cards.
set -euo pipefail

out=${1:?usage: $0 OUTPUT_DIR [more]}
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../images/lib.sh"
tiny=$cache/tiny cards=$cache/cards

for file in "$tiny/initrd.cpio.gz" "$cards/initrd.cpio.gz"; do
    [ -e "$file" ] || fail "needs $file: images/tiny.sh makes it"
done
need dpkg-deb:dpkg gzip:gzip mcopy:mtools mkfs.fat:dosfstools xorriso:xorriso grub-mkrescue:grub-common \
    /usr/lib/grub/i386-pc/cdboot.img:grub-pc-bin /usr/lib/grub/x86_64-efi/monolithic/grubx64.efi:grub-efi-amd64-bin
export PATH=$PATH:/usr/sbin:/sbin MTOOLS_SKIP_CHECK=1

step "download the systems"
download amd64 "$cache/debs-foreign" u-boot-qemu memtest86+ xen-hypervisor-4.17-amd64 ipxe syslinux syslinux-common \
    isolinux systemd-boot-efi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for deb in "$cache"/debs-foreign/*.deb; do dpkg-deb -x "$deb" "$work"; done
mkdir -p "$out"

# fat NAME MIB BITS DIRECTORY...: an empty file system with these directories.
fat() {
    local disk=$out/$1.img
    truncate -s 0 "$disk"
    truncate -s "${2}M" "$disk"
    mkfs.fat -F "$3" "$disk" >/dev/null
    [ $# = 3 ] || mmd -i "$disk" "${@:4}"
}

# put NAME FILE PATH: FILE, or "-" for the standard input, on that disk.
put() { mcopy -i "$out/$1.img" "$2" "::$3"; }

# efi NAME PROGRAM MIB: a disk that UEFI starts PROGRAM from.
efi() {
    fat "$1" "$3" 32 ::EFI ::EFI/BOOT
    put "$1" "$2" EFI/BOOT/BOOTX64.EFI
}

step "firmware and what -kernel takes"
cp "$work/usr/lib/u-boot/qemu-x86/u-boot.rom" "$out/u-boot-32.rom"
cp "$work/usr/lib/u-boot/qemu-x86_64/u-boot.rom" "$out/u-boot-64.rom"
cp "$work"/boot/memtest86+{x64,ia32}.bin "$work/boot/ipxe.lkrn" "$out"
gzip -dc "$work/boot/xen-4.17-amd64.gz" >"$out/xen"

step "disks for UEFI"
efi ipxe "$work/boot/ipxe.efi" 34
efi xen "$work/boot/xen-4.17-amd64.efi" 34
put xen - EFI/BOOT/BOOTX64.cfg <<'END'
[global]
default=tiny
[tiny]
options=console=com1 com1=115200,8n1 dom0_mem=192M noreboot
kernel=vmlinuz console=hvc0 quiet panic=-1
ramdisk=initrd
END
put xen "$cards/vmlinuz" EFI/BOOT/vmlinuz
put xen "$cards/initrd.cpio.gz" EFI/BOOT/initrd
efi systemd-boot "$work/usr/lib/systemd/boot/efi/systemd-bootx64.efi" 64
mmd -i "$out/systemd-boot.img" ::loader ::loader/entries
put systemd-boot - loader/entries/tiny.conf <<'END'
title Tiny
linux /vmlinuz
initrd /initrd
options console=ttyS0 quiet panic=-1
END
put systemd-boot - loader/entries/memtest.conf <<'END'
title Memtest86+
efi /memtest.efi
options console=ttyS0,115200
END
printf 'timeout 3\ndefault tiny.conf\n' | put systemd-boot - loader/loader.conf
put systemd-boot "$tiny/vmlinuz" vmlinuz
put systemd-boot "$tiny/initrd.cpio.gz" initrd
put systemd-boot "$work/boot/memtest86+x64.efi" memtest.efi

step "SYSLINUX and ISOLINUX"
cat >"$work/syslinux.cfg" <<'END'
SERIAL 0 115200
DEFAULT tiny
LABEL tiny
 LINUX vmlinuz
 INITRD initrd
 APPEND console=ttyS0 quiet panic=-1
END
fat syslinux 34 32
put syslinux "$work/syslinux.cfg" syslinux.cfg
put syslinux "$tiny/vmlinuz" vmlinuz
put syslinux "$tiny/initrd.cpio.gz" initrd
"$work/usr/bin/syslinux" --install "$out/syslinux.img"
mkdir "$work/cd"
cp "$work/usr/lib/ISOLINUX/isolinux.bin" "$work/usr/lib/syslinux/modules/bios/ldlinux.c32" "$work/cd"
cp "$work/syslinux.cfg" "$work/cd/isolinux.cfg"
cp "$tiny/vmlinuz" "$work/cd"
cp "$tiny/initrd.cpio.gz" "$work/cd/initrd"
xorriso -as mkisofs -quiet -o "$out/isolinux.iso" -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 \
    -boot-info-table "$work/cd" 2>/dev/null

step "GRUB: one image, CD and disk, BIOS and UEFI, to its prompt"
mkdir -p "$work/grub/boot/grub"
# OVMF has the serial port as its console and would take half of what is typed from GRUB's own driver.
cat >"$work/grub/boot/grub/grub.cfg" <<'END'
if [ "$grub_platform" = pc ]; then
    serial --unit=0
    terminal_input serial
    terminal_output serial
fi
END
cp "$cards/vmlinuz" "$work/grub/vmlinuz"
cp "$cards/initrd.cpio.gz" "$work/grub/initrd"
cp "$out/xen" "$work/grub/xen"
if [ "${2:-}" = more ]; then
    step "what hand-run tests boot"
    download amd64 "$cache/debs-foreign-more" gnumach-image-1.8-486 grub-rescue-pc grub-invaders \
        debian-installer-12-netboot-amd64 debian-installer-12-netboot-i386
    for deb in "$cache"/debs-foreign-more/*.deb; do dpkg-deb -x "$deb" "$work/more"; done
    cp "$work/more/boot/invaders.exec" "$work"/more/usr/lib/grub-rescue/* "$work/usr/lib/ipxe/ipxe.iso" \
        "$work"/usr/lib/memtest86+/memtest86+x64.iso "$out"
    gzip -dc "$work"/more/boot/gnumach-*.gz >"$work/grub/gnumach"
    for arch in amd64 i386; do
        from=$work/more/usr/lib/debian-installer/images/12/$arch/text/debian-installer/$arch
        cp "$from/linux" "$out/installer-$arch-linux"
        cp "$from/initrd.gz" "$out/installer-$arch-initrd.gz"
    done
fi
grub-mkrescue -o "$out/grub.iso" "$work/grub" >/dev/null 2>"$work/log" || { cat "$work/log" >&2; fail "grub-mkrescue"; }
step "done: $(du -sh "$out" | tr '\n\t' '  ')"
