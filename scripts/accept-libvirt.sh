#!/bin/bash
# scripts/accept-libvirt.sh [pc|q35]…
# Has libvirt drive qkvm through a machine's whole life, with each verb of virsh. Needs root, libvirt-daemon-system,
# libvirt-clients, dnsmasq-base, iptables and iproute2; without them it says "skipped: why" and ends with 0.
# scripts/libvirt/lib.sh names its variables. The last line: N passed, N failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/libvirt/lib.sh
own_libvirt "$@"

# xml NAME TYPE MACHINE: what virt-install makes for a Debian 12 guest, with a device of each kind.
xml() {
    local cd=sata sound=ich9
    [ "$3" = pc ] && cd=ide sound=ich6
    cat <<XML
<domain type='$2'>
  <name>$1</name>
  <memory unit='MiB'>1024</memory>
  <currentMemory unit='MiB'>1024</currentMemory>
  <vcpu placement='static' current='1'>2</vcpu>
  <os><type arch='x86_64' machine='$3'>hvm</type><boot dev='hd'/></os>
  <features><acpi/><apic/></features>
  <clock offset='utc'>
    <timer name='rtc' tickpolicy='catchup'/><timer name='pit' tickpolicy='delay'/><timer name='hpet' present='no'/>
  </clock>
  <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>
  <devices>
    <emulator>$QKVM</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='$work/$1.qcow2'/>
      <target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><driver name='qemu' type='raw'/><target dev='hdb' bus='$cd'/><readonly/></disk>
    $(usb "$3")
    <controller type='virtio-serial' index='0'/>
    <interface type='network'><mac address='52:54:00:11:22:33'/><source network='default'/><model type='virtio'/>
      </interface>
    <serial type='pty'><target port='0'/></serial>
    <console type='pty'><target type='serial' port='0'/></console>
    <channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <input type='tablet' bus='usb'/>
    <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/>
    <sound model='$sound'/>
    <audio id='1' type='none'/>
    <video><model type='vga' vram='16384' heads='1' primary='yes'/></video>
    <memballoon model='virtio'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <watchdog model='i6300esb' action='reset'/>
  </devices>
</domain>
XML
}

# What virt-install gives the machine: q35 has xHCI, pc had EHCI with companions.
usb() {
    [ "$1" = q35 ] && { echo "<controller type='usb' model='qemu-xhci' ports='15'/>"; return; }
    echo "<controller type='usb' index='0' model='ich9-ehci1'/>"
    for i in 1 2 3; do
        echo "<controller type='usb' index='0' model='ich9-uhci$i'><master startport='$((2 * i - 2))'/></controller>"
    done
}

# life TYPE MACHINE
life() {
    domain=$1-$2
    local state="virsh domstate $domain"
    echo "== $domain"
    qemu-img create -q -f qcow2 -b "$DISK" -F qcow2 "$work/$domain.qcow2"
    qemu-img create -q -f qcow2 "$work/spare.qcow2" 64M
    truncate -s 4M "$work/cd.iso"
    xml "$domain" "$1" "$2" >"$work/$domain.xml"
    check "domcapabilities" "<domain>$1" virsh domcapabilities --virttype "$1" --emulatorbin "$QKVM" --machine "$2"
    check "define" "defined" virsh define "$work/$domain.xml"
    check "start" "started" virsh start "$domain"
    [[ $($state) = *running* ]] || { bad "running" "$(tail -3 "/var/log/libvirt/qemu/$domain.log")"; return; }
    check "list" "$domain +running" virsh list
    check "dominfo" "State: +running" virsh dominfo "$domain"
    check "ttyconsole" "/dev/pts/" virsh ttyconsole "$domain"
    check "vncdisplay" "127.0.0.1:" virsh vncdisplay "$domain"
    check "console" "logged in" login
    eventually "agent" "return" 120 virsh qemu-agent-command "$domain" '{"execute":"guest-ping"}'
    check "vcpuinfo" "State: +running" virsh vcpuinfo "$domain"
    check "vcpupin" "" virsh vcpupin "$domain" 0 0-1
    check "domblklist" "vda" virsh domblklist "$domain"
    check "domiflist" "default.*52:54:00:11:22:33" virsh domiflist "$domain"
    check "domstats" "block.0.rd.bytes=[1-9]" virsh domstats "$domain"
    check "domblkinfo" "Capacity: +2147483648" virsh domblkinfo "$domain" vda
    check "domblkstat" "rd_bytes [1-9]" virsh domblkstat "$domain" vda
    check "domifstat" "tx_bytes [1-9]" virsh domifstat "$domain" 52:54:00:11:22:33
    eventually "domifaddr of the agent" "192.168.122" 60 virsh domifaddr --source agent "$domain"
    check "domifaddr of the lease" "192.168.122" virsh domifaddr --source lease "$domain"
    check "suspend" "suspended" virsh suspend "$domain"
    check "paused" "paused" $state
    check "resume" "resumed" virsh resume "$domain"
    check "screenshot" "screenshot|Screenshot" virsh screenshot "$domain" "$work/screen.png"
    check "screenshot has a picture" "PNG image|Netpbm|PPM" file "$work/screen.png"
    check "send-key" "" virsh send-key "$domain" KEY_A KEY_B
    check "qemu-monitor-command" "running" virsh qemu-monitor-command "$domain" --hmp info status
    check "qemu-monitor-command of QMP" '"running":true' virsh qemu-monitor-command "$domain" \
        '{"execute":"query-status"}'

    check "attach-disk" "attached" virsh attach-disk "$domain" "$work/spare.qcow2" vdb --subdriver qcow2 --live
    eventually "the disk is there" "vdb.*64M" 60 in_guest "lsblk /dev/vdb"
    check "blkdeviotune" "" virsh blkdeviotune "$domain" vdb --total-bytes-sec 4000000 --live
    check "blkdeviotune reads" "total_bytes_sec: 4000000" virsh blkdeviotune "$domain" vdb
    check "blockresize" "resized" virsh blockresize "$domain" vdb 128M
    eventually "the disk has grown" "vdb.*128M" 60 in_guest "lsblk /dev/vdb"
    check "detach-disk" "detached" virsh detach-disk "$domain" vdb --live
    eventually "the disk is gone" "not a block device" 60 in_guest "lsblk /dev/vdb"
    check "attach-interface" "attached" virsh attach-interface "$domain" network default --model virtio \
        --mac 52:54:00:11:22:44 --live
    eventually "the card is there" "52:54:00:11:22:44" 60 in_guest "ip link"
    check "domif-setlink down" "updated" virsh domif-setlink "$domain" 52:54:00:11:22:44 down
    check "domif-getlink" "down" virsh domif-getlink "$domain" 52:54:00:11:22:44
    check "domif-setlink up" "updated" virsh domif-setlink "$domain" 52:54:00:11:22:44 up
    check "detach-interface" "detached" virsh detach-interface "$domain" network --mac 52:54:00:11:22:44 --live
    eventually "the card is gone" "ok-gone" 60 in_guest "ip link | grep -q 52:54:00:11:22:44 || echo ok-gone"
    echo "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='$work/spare.qcow2'/>
        <target dev='sda' bus='usb' removable='on'/></disk>" >"$work/stick.xml"
    check "attach-device, a USB stick" "attached" virsh attach-device "$domain" "$work/stick.xml" --live
    eventually "the stick is there" "sd[a-z].*128M" 90 in_guest "lsblk -S -o NAME,TRAN; lsblk -d"
    check "detach-device" "detached" virsh detach-device "$domain" "$work/stick.xml" --live
    check "change-media --insert" "uccessfully" virsh change-media "$domain" hdb "$work/cd.iso" --insert --live
    eventually "the medium is there" "^ *8192" 60 in_guest "cat /sys/block/sr0/size"
    check "change-media --eject" "uccessfully" virsh change-media "$domain" hdb --eject --live
    check "setvcpus" "" virsh setvcpus "$domain" 2 --live
    eventually "two processors" "^ *2" 60 in_guest "echo 1 >/sys/devices/system/cpu/cpu1/online 2>/dev/null; nproc"
    check "setmem" "" virsh setmem "$domain" 768M --live
    eventually "less memory" "actual 786432" 60 virsh dommemstat "$domain"
    check "setmem back" "" virsh setmem "$domain" 1024M --live
    check "dommemstat --period" "" virsh dommemstat "$domain" --period 1 --live
    eventually "the guest's statistics" "available [0-9]" 30 virsh dommemstat "$domain"
    check "domtime" "Time: [0-9]" virsh domtime "$domain"
    check "domfsinfo" "ext4" virsh domfsinfo "$domain"
    check "domfsfreeze" "[1-9] filesystem" virsh domfsfreeze "$domain"
    check "domfsthaw" "[1-9] filesystem" virsh domfsthaw "$domain"
    check "set-user-password" "successfully" virsh set-user-password "$domain" root secret
    in_guest "passwd -d root" >/dev/null
    check "guestinfo" "debian" virsh guestinfo "$domain" --os

    kill "$daemon" && wait "$daemon" 2>/dev/null
    start_daemon
    check "the daemon restarted: still there" "$domain +running" virsh list
    check "the daemon restarted: answers" "return" virsh qemu-agent-command "$domain" '{"execute":"guest-ping"}'

    refused "a missing file" "o such file" virsh attach-disk "$domain" "$work/nothing.img" vdc --live
    printf 'QFI\373 nonsense' >"$work/broken.qcow2"
    truncate -s 64K "$work/broken.qcow2"
    refused "a broken image" "broken.qcow2|qcow2|mage" virsh attach-disk "$domain" "$work/broken.qcow2" vdc \
        --subdriver qcow2 --live
    check "it runs on" "running" $state

    check "autostart" "marked as autostarted" virsh autostart "$domain"
    check "autostart --disable" "unmarked" virsh autostart --disable "$domain"
    before=$(boot_id)
    check "reboot" "reboot" virsh reboot "$domain" --mode acpi
    eventually "rebooted" "another boot" 300 another_boot
    before=$(boot_id)
    check "reset" "reset" virsh reset "$domain"
    eventually "reset and up" "another boot" 300 another_boot
    check "shutdown --mode agent" "shut" virsh shutdown "$domain" --mode agent
    eventually "shut off by the agent" "shut off" 120 $state
    check "start again" "started" virsh start "$domain"
    check "console again" "logged in" login
    check "shutdown --mode acpi" "shut" virsh shutdown "$domain" --mode acpi
    eventually "shut off by ACPI" "shut off" 120 $state
    check "start paused" "started" virsh start "$domain" --paused
    check "destroy" "destroyed" virsh destroy "$domain"
    check "undefine" "undefined" virsh undefine "$domain"
    domain=
}

for machine in "${@:-pc q35}"; do
    for m in $machine; do for type in ${TYPES:-qemu}; do life "$type" "$m"; done; done
done
