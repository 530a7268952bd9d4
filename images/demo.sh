#!/bin/bash
# images/demo.sh OUTPUT.qcow2
# Makes the demo disk: Debian 12 with its generic kernel, systemd and GRUB in a partitioned disk, as an installer would
# leave it. It boots to a login prompt on the screen and on the first serial port, from an IDE or a virtio disk, by BIOS
# or by UEFI, there with Debian's signed shim and GRUB: with secure boot, too.
# Log in as root, without a password. Needs root (chroot), but neither loop devices nor KVM. SIZE=4G makes the disk
# another size; EXTRA=stress-ng,gcc adds packages.
set -euo pipefail

out=${1:?usage: $0 OUTPUT.qcow2}
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
[ "$(id -u)" = 0 ] || fail "run as root: a chroot is set up"

size=${SIZE:-2G}
esp=2048 esp_size=16384 # sectors of the EFI system partition; the gap before it takes GRUB's core image
start=$((esp + esp_size)) # first sector of the root partition
packages=linux-image-amd64,lz4,grub-pc,systemd-sysv,udev,dbus,kmod,e2fsprogs,ifupdown,isc-dhcp-client,iproute2
packages+=,iputils-ping,netbase,pciutils,usbutils,qemu-guest-agent,util-linux,ca-certificates,less,nano${EXTRA:+,$EXTRA}

need mmdebstrap:mmdebstrap mke2fs:e2fsprogs sfdisk:fdisk uuidgen:uuid-runtime mkfs.fat:dosfstools mcopy:mtools
qemu_img=${QEMU_IMG:-qemu-img}
[ "$qemu_img" != qemu-img ] || need qemu-img:qemu-utils

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
debs=$cache/debs-demo
mkdir -p "$debs"
uuid=$(uuidgen)

# Files of the image that must be there before the kernel and GRUB are configured.
mkdir "$work/etc"
mkdir -p "$work"/etc/{initramfs-tools/{conf.d,hooks},default/grub.d,network,systemd/network}
cat >"$work/etc/fstab" <<END
UUID=$uuid / ext4 errors=remount-ro 0 1
END
echo debian >"$work/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 debian\n::1 localhost\n' >"$work/etc/hosts"
# The first Ethernet card is eth0, whatever slot it sits in: Debian's documented way to keep the kernel's names. It is
# hot-plugged, so that the login does not wait for DHCP. (systemd-networkd needs no name, but pulls in
# cfg80211, a megabyte of wireless drivers.)
ln -s /dev/null "$work/etc/systemd/network/99-default.link"
cat >"$work/etc/network/interfaces" <<'END'
auto lo
iface lo inet loopback

allow-hotplug eth0
iface eth0 inet dhcp
END
# An initramfs with the drivers for disks alone is a fifth of the usual one, and LZ4 unpacks with the fewest
# instructions, which counts where every one is emulated. The drivers come in through a hook, not through the file
# "modules", which would load them all whether their hardware is there or not; so udev picks.
cat >"$work/etc/initramfs-tools/conf.d/lean" <<'END'
MODULES=list
COMPRESS=lz4
END
cat >"$work/etc/initramfs-tools/hooks/disks" <<'END'
#!/bin/sh
[ "$1" = prereqs ] && exit
. /usr/share/initramfs-tools/hook-functions
manual_add_modules ata_piix ata_generic ahci sd_mod sr_mod nvme virtio_pci virtio_blk virtio_scsi ext4 \
    usb_storage xhci_pci ehci_pci uhci_hcd
END
chmod 755 "$work/etc/initramfs-tools/hooks/disks"
# The screen stays in VGA text mode, which -display curses can show too. (The boot takes as long either way.)
mkdir "$work/etc/modprobe.d"
echo 'blacklist bochs' >"$work/etc/modprobe.d/text-console.conf"
cat >"$work/etc/default/grub.d/serial.cfg" <<'END'
GRUB_TIMEOUT=1
GRUB_TERMINAL="serial console"
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200"
GRUB_DISABLE_OS_PROBER=true
END

step "install Debian $suite"
mmdebstrap --quiet --variant=minbase --architectures=amd64 --include="$packages" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --skip=download/empty --skip=essential/unlink \
    --setup-hook='mkdir -p "$1/var/cache/apt/archives"' --setup-hook="sync-in '$debs' /var/cache/apt/archives" \
    --essential-hook="cp -a '$work/etc' \"\$1\"" \
    --essential-hook='echo grub-pc grub-pc/install_devices_empty boolean true | chroot "$1" debconf-set-selections' \
    --customize-hook="sync-out /var/cache/apt/archives '$debs'" \
    "$suite" "$root"
rm -rf "$debs/partial" "$debs/lock"

step "configure it"
rm -f "$root/etc/resolv.conf" # this machine's, lent for the installation; the guest's DHCP client writes its own
chroot "$root" passwd -qd root
chroot "$root" systemctl -q mask ifupdown-pre # waits for every driver, in vain: eth0 comes up when its event comes
# Housekeeping that would only compete with what one wants to see in a demo.
chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer
# Having an identity, the first boot is like any other: systemd does not apply presets to all units again.
chroot "$root" systemd-machine-id-setup 2>/dev/null

step "configure GRUB"
# update-grub asks grub-probe about the disk below /, which does not exist yet; so we answer, and Debian's own scripts
# write the very grub.cfg that they would write in the running system.
mv "$root/usr/sbin/grub-probe" "$work/grub-probe"
cat >"$root/usr/sbin/grub-probe" <<END
#!/bin/sh
case "\$*" in
*target=device*) echo /dev/sda1 ;;
*target=fs_uuid*) echo $uuid ;;
*target=fs*) echo ext2 ;;
*target=partmap*) echo msdos ;;
*target=hints_string*) echo "--hint-bios=hd0,msdos1" ;;
*target=compatibility_hint*) echo hd0,msdos1 ;;
esac
END
chmod 755 "$root/usr/sbin/grub-probe"
mkdir -p "$root/dev/disk/by-uuid" "$root/boot/grub/i386-pc"
touch "$root/dev/disk/by-uuid/$uuid"
chroot "$root" update-grub 2>/dev/null
mv "$work/grub-probe" "$root/usr/sbin/grub-probe"
rm -r "$root/dev/disk"
grep -q "root=UUID=$uuid" "$root/boot/grub/grub.cfg" || fail "update-grub wrote no entry that finds the root by UUID"

# What grub-install does, without a disk to do it to: modules beside the configuration, and a core image that finds them
# on the first partition of whatever disk it was booted from.
cp "$root"/usr/lib/grub/i386-pc/*.{mod,lst,img} "$root/boot/grub/i386-pc"
chroot "$root" grub-mkimage -O i386-pc -p '(,msdos1)/boot/grub' -o /boot/grub/i386-pc/core.img biosdisk part_msdos ext2
chroot "$root" grub-editenv /boot/grub/grubenv create

# /usr changed last just now; saying that /etc and /var know of it spares the first boot a rebuild of the hardware
# database and of the journal's catalogue, which the packages have made already.
touch "$root/etc/.updated" "$root/var/.updated"

step "make the EFI system partition"
download amd64 "$cache/debs-efi" shim-signed grub-efi-amd64-signed
for deb in "$cache"/debs-efi/*.deb; do dpkg-deb -x "$deb" "$work/efi"; done
printf 'search.fs_uuid %s root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n' "$uuid" >"$work/grub.cfg"
truncate -s $((esp_size * 512)) "$work/esp"
mkfs.fat -n ESP "$work/esp" >/dev/null
mmd -i "$work/esp" ::/EFI ::/EFI/BOOT ::/EFI/debian
mcopy -i "$work/esp" "$work/efi/usr/lib/shim/shimx64.efi.signed" ::/EFI/BOOT/BOOTX64.EFI
mcopy -i "$work/esp" "$work/efi/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" ::/EFI/BOOT/grubx64.efi
mcopy -i "$work/esp" "$work/grub.cfg" ::/EFI/debian/grub.cfg

step "write the disk"
disk=$work/disk.raw
truncate -s "$size" "$disk"
printf '%s\n' "start=$start, type=83, bootable" "start=$esp, size=$esp_size, type=ef" | sfdisk -q --label dos "$disk"
dd if="$work/esp" of="$disk" bs=512 seek=$esp conv=notrunc status=none
# Tables are initialized now, or the guest's kernel would do it in the background after its first mount.
mke2fs -q -t ext4 -L debian -U "$uuid" -m 1 -E "offset=$((start * 512)),lazy_itable_init=0,lazy_journal_init=0" \
    -J size=16 -d "$root" "$disk" $((($(stat -c %s "$disk") - start * 512) / 1024))k
# boot.img goes before the partition table in sector 0 and loads sector 1; core.img's first sector loads the rest from
# sector 2 on. These are the values that both have when assembled, so there is nothing to patch.
core=$root/boot/grub/i386-pc/core.img
[ "$(stat -c %s "$core")" -le $(((esp - 1) * 512)) ] || fail "core.img does not fit before the partition"
dd if="$root/usr/lib/grub/i386-pc/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
dd if="$core" of="$disk" bs=512 seek=1 conv=notrunc status=none

step "convert it to qcow2"
"$qemu_img" convert -f raw -O qcow2 "$disk" "$out"
step "done: $(du -h "$out" | tr '\t' ' '), initramfs $(du -h "$root"/boot/initrd.img-* | cut -f1)"
