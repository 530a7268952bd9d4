#!/bin/bash
# scripts/setup.sh build|run|test|bench: checks for the .NET SDK and installs, with apt-get, what that job needs.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"

has_sdk() { command -v dotnet >/dev/null && dotnet --list-sdks | grep -Eq '^[1-9][0-9]\.'; }

has_sdk || fail "needs the .NET SDK, 10.0 or later, as 'dotnet' on the PATH. To get it without root:
    curl -sSL https://dot.net/v1/dotnet-install.sh | bash -s -- --channel 10.0
    export PATH=\$HOME/.dotnet:\$PATH
  (that wants 'curl ca-certificates'), or follow https://learn.microsoft.com/dotnet/core/install/linux-debian"

# Native AOT links with clang or gcc; SeaBIOS and the assembled option ROMs go into the executable.
command -v clang >/dev/null || need gcc:gcc /usr/include/stdlib.h:libc6-dev
need objcopy:binutils /usr/include/zlib.h:zlib1g-dev nasm:nasm /usr/share/seabios/bios-256k.bin:seabios

case ${1:?usage: $0 build|run|test|bench} in
build) ;;
run) need mmdebstrap:mmdebstrap mke2fs:e2fsprogs sfdisk:fdisk uuidgen:uuid-runtime qemu-img:qemu-utils ;;
test) need qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils iasl:acpica-tools ip:iproute2 ping:iputils-ping \
    script:bsdutils ld:binutils mmdebstrap:mmdebstrap cpio:cpio depmod:kmod \
    passt:passt socat:socat python3:python3 gdb:gdb dnsmasq:dnsmasq-base iperf3:iperf3 ssh:openssh-client \
    tshark:tshark swtpm:swtpm /usr/share/OVMF/OVMF_CODE_4M.fd:ovmf /usr/lib/ipxe/qemu/efi-virtio.rom:ipxe-qemu \
    mcopy:mtools mkfs.fat:dosfstools xorriso:xorriso grub-mkrescue:grub-common \
    /usr/lib/grub/i386-pc/cdboot.img:grub-pc-bin \
    /usr/lib/grub/x86_64-efi/monolithic/grubx64.efi:grub-efi-amd64-bin ;;
bench) need qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils mmdebstrap:mmdebstrap cpio:cpio depmod:kmod ;;
*) fail "$1: expected build, run, test or bench" ;;
esac
