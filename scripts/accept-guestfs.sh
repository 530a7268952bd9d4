#!/bin/bash
# scripts/accept-guestfs.sh [tool|fish|mount|virt|libvirt|times]…
# Has libguestfs run its appliance on out/qkvm: its own test; guestfish and guestmount, whose changes a booted guest
# sees; virt-filesystems, virt-cat, virt-df, virt-customize, virt-sysprep and virt-resize on copies of the demo disk;
# the test again by a libvirt; in the end times beside QEMU's (scripts/bench-guestfs.sh, RUNS=1). Needs what
# accept-libvirt.sh needs, and libguestfs-tools with a kernel for its appliance. scripts/libvirt/lib.sh names its
# variables. The last line: N passed, N failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/libvirt/lib.sh
tools="libguestfs-test-tool:libguestfs-tools guestfish:libguestfs-tools guestmount:guestmount virt-resize:guestfs-tools"
[ -n "${SUPERMIN_KERNEL:-}" ] || ls /boot/vmlinuz-* >/dev/null 2>&1 \
    || skip "needs a kernel (apt install linux-image-amd64, or set SUPERMIN_KERNEL and SUPERMIN_MODULES)"
own_libvirt "$@"

# The software CPU, as /dev/kvm may be one that runs nothing.
export LIBGUESTFS_HV=$QKVM LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg
part() { [ "$#" = 1 ] || [[ " ${*:2} " = *" $1 "* ]]; }

overlay() { qemu-img create -q -f qcow2 -b "$DISK" -F qcow2 "$work/$1.qcow2"; }

if part tool "$@"; then
    check "libguestfs-test-tool" "TEST FINISHED OK" libguestfs-test-tool
fi

if part fish "$@"; then
    cat >"$work/commands" <<FISH
sparse $work/fish.img 1G
run
part-disk /dev/sda gpt
mkfs ext4 /dev/sda1
mount /dev/sda1 /
fill 90 200M /big
checksum md5 /big
write /words "written by guestfish"
umount /
FISH
    check "guestfish makes and fills a file system" "1c9c1d768f3bc96821ecb9d021fa4d3a" guestfish -f "$work/commands"
    check "another one reads it" "written by guestfish" guestfish --ro -a "$work/fish.img" -m /dev/sda1 cat /words
    check "and finds it whole" "^0$" guestfish -a "$work/fish.img" run : e2fsck-f /dev/sda1 : echo 0
fi

if part mount "$@"; then
    overlay node1
    mkdir "$work/mounted"
    mounted() {
        guestmount --pid-file "$work/pid" -a "$work/node1.qcow2" -i "$work/mounted" || return
        cat "$work/mounted/etc/debian_version"
        echo mounted >"$work/mounted/etc/hostname"
        rm "$work/mounted/etc/motd"
        guestunmount "$work/mounted" || return
        # the emulator ends after the file system is gone
        while kill -0 "$(cat "$work/pid" 2>/dev/null)" 2>/dev/null; do sleep 0.2; done
    }
    export -f mounted
    export work
    check "guestmount" "^12" mounted
    check "the image is whole" "No errors" qemu-img check "$work/node1.qcow2"
    "$QKVM" -accel tcg -m 1G -display none -monitor none -serial "file:$work/serial" \
        -drive "file=$work/node1.qcow2,if=virtio" 2>/dev/null &
    guest=$!
    eventually "the guest has the name that guestmount gave it" "mounted login:" 300 cat "$work/serial"
    kill "$guest"
    wait "$guest" 2>/dev/null
fi

if part virt "$@"; then
    overlay image
    image=$work/image.qcow2
    check "virt-filesystems" "/dev/sda1 +filesystem +ext4" virt-filesystems -a "$image" --all --long
    check "virt-cat" "^debian$" virt-cat -a "$image" /etc/hostname
    check "virt-df" "/dev/sda1 +[0-9]+ +[0-9]+ +[0-9]+ +[0-9]+%" virt-df -a "$image"
    check "virt-customize" "Finishing off" virt-customize -a "$image" --no-network --hostname altered \
        --run-command "uname -m >/root/ran"
    check "its command ran" "^x86_64$" virt-cat -a "$image" /root/ran
    check "its name is there" "^altered$" virt-cat -a "$image" /etc/hostname
    check "virt-sysprep" "machine-id" virt-sysprep -a "$image"
    check "virt-ls" "^customized|^ran$" virt-ls -a "$image" /root
    truncate -s 4G "$work/resized.img"
    check "virt-resize" "completed with no errors" virt-resize --expand /dev/sda1 "$image" "$work/resized.img"
    check "the file system has grown" "ext4 +[^ ]+ +4[0-9]{9}" virt-filesystems -a "$work/resized.img" --filesystems \
        --long
fi

if part libvirt "$@"; then
    by_libvirt() {
        LIBGUESTFS_BACKEND=libvirt libguestfs-test-tool 2>&1 | grep -oE "<emulator>.*|TEST FINISHED OK" | tr '\n' ' '
    }
    export -f by_libvirt
    check "libguestfs-test-tool by libvirt" "$QKVM</emulator>.*TEST FINISHED OK" by_libvirt
fi

if part times "$@"; then
    check "times beside QEMU's" "guestfish" sh -c "RUNS=${RUNS:-1} scripts/bench-guestfs.sh | tee '$work/times'"
    cat "$work/times"
fi
