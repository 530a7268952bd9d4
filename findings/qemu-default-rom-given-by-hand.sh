#!/bin/bash
# QEMU 7.2 (Debian 1:7.2+dfsg-7+deb12u18+b3), ipxe-qemu 1.0.0+git-20190125.36a4c85-5.1, SeaBIOS 1.16.2-1:
# the option ROM that virtio-net-pci has by default, given by hand with romfile=, is not run.
#
# Debian's efi-virtio.rom says in its PCI data structure (PCI Firmware 3.3, section 5.1.2) that it is for the modern
# device 1af4:1041. The transitional card is 1af4:1000, and SeaBIOS runs only ROMs of the card's own numbers. QEMU
# writes the card's numbers into a ROM that it chose itself, and not into one that the user names, be it the same file:
# with romfile= naming the default, the card no longer boots from the network. Nothing is said about it.
#
# Seen:
#   PCI data structure of efi-virtio.rom: 1af4:1041
#   default ROM: iPXE starts
#   romfile=efi-virtio.rom: iPXE does not start
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/debs/partial" "$work/root"
: >"$work/status"
apt-get -qq -y --no-install-recommends --download-only -o Dir::State::status="$work/status" \
    -o Dir::Cache::archives="$work/debs" -o APT::Sandbox::User=root install \
    'qemu-system-x86=1:7.2+dfsg-7+deb12u18+b3' 'ipxe-qemu=1.0.0+git-20190125.36a4c85-5.1' 'seabios=1.16.2-1' >/dev/null
for package in "$work"/debs/*.deb; do dpkg-deb -x "$package" "$work/root"; done

root=$work/root rom=$work/root/usr/lib/ipxe/qemu/efi-virtio.rom
export QEMU_MODULE_DIR=$root/usr/lib/x86_64-linux-gnu/qemu
libraries=$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu
for directory in "$root"/usr/lib/x86_64-linux-gnu/*/; do libraries=$libraries:$directory; done

word() { od -An -tu2 -j "$1" -N 2 "$rom" | tr -d ' '; }
pcir=$(word 24)
numbers=$(printf '%04x:%04x' "$(word $((pcir + 4)))" "$(word $((pcir + 6)))")
echo "PCI data structure of efi-virtio.rom: $numbers"

# starts ROM-OPTION: whether iPXE's first line comes on the serial port.
starts() {
    local said
    said=$(timeout 30 "$root/lib64/ld-linux-x86-64.so.2" --library-path "$libraries" \
        "$root/usr/bin/qemu-system-x86_64" -L "$root/usr/share/seabios" -L "$root/usr/share/qemu" \
        -L "$root/usr/lib/ipxe/qemu" -m 64 -nographic -no-reboot -boot n -netdev user,id=n \
        -device "virtio-net-pci,netdev=n$1" </dev/null 2>&1 | tr -d '\0') || true # it runs until the time is over
    case $said in
        *"iPXE (http"*) echo "iPXE starts" ;;
        *SeaBIOS*) echo "iPXE does not start" ;;
        *) echo "QEMU does not start: $said" ;;
    esac
}
default=$(starts "") named=$(starts ",romfile=$rom")
echo "default ROM: $default"
echo "romfile=efi-virtio.rom: $named"
[ "$numbers" = 1af4:1041 ] && [ "$default" = "iPXE starts" ] && [ "$named" = "iPXE does not start" ]
