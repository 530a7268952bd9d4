#!/bin/bash
# images/tiny.sh OUTPUT_DIR [amd64|generic|i386]
# Makes OUTPUT_DIR/vmlinuz and OUTPUT_DIR/initrd.cpio.gz: a Debian 12 kernel, unmodified, and a busybox that says
# TINY READY as soon as it runs. Nothing is installed; the packages are only unpacked. Needs no root. The generic
# kernel is amd64's with all drivers.
set -euo pipefail

out=${1:?usage: $0 OUTPUT_DIR [amd64|generic|i386]}
flavour=${2:-amd64} arch=${2:-amd64}
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

case $flavour in
amd64) meta=linux-image-cloud-amd64 ;; # few drivers built, hence small and quick to boot; virtio and NVMe are there
generic) meta=linux-image-amd64 arch=amd64 ;;
i386) meta=linux-image-686 ;;          # without PAE: two-level page tables, the case that nothing else tests
*) fail "kernel $flavour: expected amd64, generic or i386" ;;
esac

# Modules that tests may want; their dependencies come with them. Skipped are those that a kernel has built in (ext4 and
# NVMe in the cloud kernel) or does not have (AHCI, e1000, 9p, sound and displays in the cloud kernel).
modules="virtio_pci virtio_mmio virtio_blk virtio_scsi virtio_net virtio_console virtio_rng virtio_balloon
         virtio_mem virtio_pmem nd_pmem nfit
         9p 9pnet_virtio virtiofs vmw_vsock_virtio_transport nvme sd_mod sr_mod ata_piix ata_generic ahci
         e1000 e1000e 8139cp ne2k-pci 8021q ext4 vfat isofs nls_ascii nls_cp437 nls_iso8859-1 pvpanic-pci
         i6300esb ib700wdt virtio_input pcspkr button
         uhci_hcd ehci_pci ohci_pci xhci_pci usbhid hid_generic usb_storage ftdi_sio cdc_ether rndis_host evdev
         snd-intel8x0 snd-ens1370 snd-sb16 snd-hda-intel snd-hda-codec-generic snd-pcm-oss virtio-gpu bochs floppy"

need cpio:cpio depmod:kmod dpkg-deb:dpkg gzip:gzip

step "download the kernel and busybox for $flavour"
debs=$cache/debs-$flavour
download "$arch" "$debs" "$meta" busybox-static

step "unpack them"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/debs" "$work/root"/{bin,sbin,dev,proc,sys,tmp,mnt,root,etc}
for deb in "$debs"/*.deb; do dpkg-deb -x "$deb" "$work/debs"; done
vmlinuz=$(echo "$work"/debs/boot/vmlinuz-*)
version=${vmlinuz##*/vmlinuz-}

step "collect modules of $version"
from=$work/debs/lib/modules/$version
to=$work/root/lib/modules/$version
mkdir -p "$to"
cp "$from"/modules.{order,builtin,builtin.modinfo} "$to"
depmod -b "$work/debs" "$version"
for module in $modules; do
    # "insmod /path/x.ko" for the module and all that it needs; the option makes modprobe ignore this machine's state.
    /sbin/modprobe -d "$work/debs" -S "$version" -D "$module" 2>/dev/null |
        sed -n "s|^insmod .*/lib/modules/$version/\([^ ]*\).*|\1|p" || true
done | sort -u | while read -r file; do
    install -D -m 644 "$from/$file" "$to/$file"
done
depmod -b "$work/root" "$version"
rm -f "$to"/*.bin "$to"/modules.{order,builtin.modinfo,softdep,devname} # busybox reads the text files alone

step "write the initrd"
cp "$work/debs/bin/busybox" "$work/root/bin/busybox"
install -m 755 "$here/tiny-init" "$work/root/init"
ln -s ../bin/busybox "$work/root/sbin/modprobe" # the kernel calls this path, e.g. for a file system on mount
for applet in sh mount; do ln -s busybox "$work/root/bin/$applet"; done
mkdir -p "$out"
cp "$vmlinuz" "$out/vmlinuz"
# Sorted names, no owners and no times, so that the same packages make the same bytes. Level 1 would inflate no
# faster: the cost of unpacking grows with the size of the output, so spend the time here.
find "$work/root" -exec touch -hd @0 {} +
(cd "$work/root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 --reproducible) |
    gzip -9n >"$out/initrd.cpio.gz"

step "done: $(du -h "$out/vmlinuz" "$out/initrd.cpio.gz" | tr '\n\t' '  ')"
