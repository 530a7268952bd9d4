#!/bin/bash
# scripts/accept-disks.sh
# Has libvirt take snapshots of a running guest's disk, commit, pull, copy and back it up, while the guest writes files
# whose sums it checks after each step; in the end qemu-img looks at the images. Needs what accept-libvirt.sh needs.
# scripts/libvirt/lib.sh names its variables. The last line: N passed, N failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/libvirt/lib.sh
own_libvirt "$@"

domain=disks
qemu-img create -q -f qcow2 -b "$DISK" -F qcow2 "$work/vda.qcow2"
qemu-img create -q -f qcow2 "$work/data.qcow2" 512M
cat >"$work/domain.xml" <<XML
<domain type='qemu'>
  <name>$domain</name><memory unit='MiB'>1024</memory><vcpu>2</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os>
  <features><acpi/><apic/></features>
  <devices>
    <emulator>$QKVM</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='$work/vda.qcow2'/>
      <target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='$work/data.qcow2'/>
      <target dev='vdb' bus='virtio'/></disk>
    <controller type='virtio-serial' index='0'/>
    <serial type='pty'><target port='0'/></serial>
    <channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <memballoon model='none'/>
  </devices>
</domain>
XML

# The guest writes a file and its sum again and again, until it is told to stop.
writer='mkdir -p /mnt; mkfs.ext4 -q -F /dev/vdb && mount /dev/vdb /mnt && cd /mnt && (i=0; while [ ! -e stop ]; do
    i=$((i + 1)); dd if=/dev/urandom of=f$((i % 40)) bs=64k count=$((i % 37 + 1)) conv=fsync 2>/dev/null
    sha256sum f$((i % 40)) >s$((i % 40)); echo $i >count; done; touch done) >/dev/null 2>&1 & echo writing'

# written STEP: the guest has written since the last time, and what it wrote reads as it was.
last=0
written() {
    local count
    for _ in $(seq 60); do
        count=$(in_guest "cat /mnt/count" | tr -dc 0-9)
        [ "${count:-0}" -gt "$last" ] && break
        sleep 1
    done
    if [ "${count:-0}" -gt "$last" ]; then ok "the guest writes after $1 ($count)"
    else bad "the guest writes after $1" "$count"; fi
    last=${count:-$last}
}

check "define" "defined" virsh define "$work/domain.xml"
check "start" "started" virsh start "$domain"
eventually "the agent" "{}|return" 300 virsh qemu-agent-command "$domain" '{"execute":"guest-ping"}'
check "a writing guest" "writing" in_guest "$writer"
written "start"

check "snapshot-create-as --disk-only" "created" virsh snapshot-create-as "$domain" one --disk-only --no-metadata \
    --diskspec "vda,snapshot=no" --diskspec "vdb,file=$work/one.qcow2"
written "one snapshot"
check "a second one" "created" virsh snapshot-create-as "$domain" two --disk-only --no-metadata \
    --diskspec "vda,snapshot=no" --diskspec "vdb,file=$work/two.qcow2"
written "two"
check "the disk is the second" "two.qcow2" virsh domblklist "$domain"
check "blockcommit of the one between" "complete|Commit" virsh blockcommit "$domain" vdb --wait --verbose \
    --top "$work/one.qcow2" --base "$work/data.qcow2"
written "blockcommit of the one between"
check "blockcommit --active --pivot" "uccessfully pivoted" virsh blockcommit "$domain" vdb --active --pivot --wait \
    --verbose
check "the disk is the first again" "data.qcow2" virsh domblklist "$domain"
written "blockcommit"

check "snapshot to be pulled" "created" virsh snapshot-create-as "$domain" three --disk-only --no-metadata \
    --diskspec "vda,snapshot=no" --diskspec "vdb,file=$work/three.qcow2"
written "a third snapshot"
check "blockpull" "complete|Pull" virsh blockpull "$domain" vdb --wait --verbose
written "blockpull"
check "the pulled image stands alone" "no backing" sh -c \
    "qemu-img info -U '$work/three.qcow2' | grep 'backing file' || echo no backing"

check "blockcopy --pivot" "uccessfully pivoted" virsh blockcopy "$domain" vdb "$work/copy.qcow2" --wait --verbose \
    --pivot --transient-job
check "the disk is the copy" "copy.qcow2" virsh domblklist "$domain"
written "blockcopy"
check "blockcopy --finish" "uccessfully copied|complete" virsh blockcopy "$domain" vdb "$work/aside.qcow2" --wait \
    --verbose --finish --transient-job
written "blockcopy --finish"

# qmp COMMAND [ARGUMENTS]: its answer.
qmp() { virsh qemu-monitor-command "$domain" "{\"execute\":\"$1\",\"arguments\":${2:-{\}}}"; }

# libvirt's own backup-begin asks for a migration that takes bitmaps along.
node=$(qmp query-named-block-nodes | grep -oE '"node-name":"libvirt-[0-9]+-format"|"file":"[^"]*"' |
    grep -A1 'copy.qcow2' | grep -oE 'libvirt-[0-9]+-format' | head -1)
[ -n "$node" ] || node=$(qmp query-block | grep -oE 'libvirt-[0-9]+-format' | tail -1)
backup() {
    check "blockdev-add of $1" "return" qmp blockdev-add "{\"driver\":\"qcow2\",\"node-name\":\"$1\",\"backing\":null,
        \"file\":{\"driver\":\"file\",\"filename\":\"$work/$1.qcow2\"}}"
    check "$2 backup" '"return"' qmp transaction "{\"actions\":[$3{\"type\":\"blockdev-backup\",\"data\":{
        \"job-id\":\"$1\",\"device\":\"$node\",\"target\":\"$1\",$4}}]}"
    eventually "the $2 backup ends" '"return":\[\]' 120 qmp query-jobs
    check "blockdev-del of $1" "return" qmp blockdev-del "{\"node-name\":\"$1\"}"
}
export -f qmp
export work node
qemu-img create -q -f qcow2 "$work/full.qcow2" 512M
qemu-img create -q -f qcow2 -b "$work/full.qcow2" -F qcow2 "$work/inc.qcow2"
bitmap="{\"node\":\"$node\",\"name\":\"b\",\"persistent\":true}"
backup full full "{\"type\":\"block-dirty-bitmap-add\",\"data\":$bitmap}," '"sync":"full"'
written "a full backup"
backup inc incremental "" '"sync":"incremental","bitmap":"b"'
written "an incremental backup"
check "domblkerror" "No errors" virsh domblkerror "$domain"

check "the writer is told to stop" "" in_guest "touch /mnt/stop"
eventually "the writer stops" "done" 60 in_guest "ls /mnt/done; sync"
check "all files have their sums" "^ *0 bad" in_guest \
    "cd /mnt; bad=0; for s in s[0-9]*; do sha256sum -c \$s >/dev/null 2>&1 || bad=\$((bad + 1)); done; echo \$bad bad"
check "the guest's file system is clean" "clean" in_guest "cd /; umount /mnt && fsck.ext4 -fn /dev/vdb && echo clean"
check "destroy" "destroyed" virsh destroy "$domain"
for image in data one two three copy aside full inc; do
    check "qemu-img check of $image" "No errors" qemu-img check "$work/$image.qcow2"
done
for image in full inc; do
    qemu-img convert -O raw "$work/$image.qcow2" "$work/$image.raw"
    check "fsck of backup $image" "clean" sh -c \
        "fsck.ext4 -fy '$work/$image.raw' >/dev/null; [ \$? -le 1 ] && echo clean"
done
