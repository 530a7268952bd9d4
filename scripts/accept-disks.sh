#!/bin/bash
# scripts/accept-disks.sh
# Has libvirt take snapshots of a running guest's disk, commit, pull, copy and back it up (checkpoints, push, pull,
# incremental), while the guest writes files whose sums it checks after each step; in the end qemu-img looks at the
# images, and backups are compared with what the disk was. Needs what accept-libvirt.sh needs.
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

# Of a backup or checkpoint: only the second disk takes part.
backup_xml() {
    cat >"$work/backup.xml" <<XML
<domainbackup mode='$1'>${2:+<incremental>$2</incremental>}$3
  <disks><disk name='vda' backup='no'/>$4</disks></domainbackup>
XML
}
push() {
    backup_xml push "$2" "" "<disk name='vdb' backup='yes' type='file'><driver type='qcow2'/>
        <target file='$work/$1.qcow2'/></disk>"
}
pull() {
    backup_xml pull "$1" "<server transport='unix' socket='$work/nbd.sock'/>" "<disk name='vdb' backup='yes'
        type='file' exportname='vdb' ${1:+exportbitmap='changes'}><driver type='qcow2'/>
        <scratch file='$work/scratch.qcow2'/></disk>"
}
checkpoint_xml() {
    echo "<domaincheckpoint><name>$1</name><disks><disk name='vda' checkpoint='no'/>
        <disk name='vdb' checkpoint='bitmap'/></disks></domaincheckpoint>" >"$work/checkpoint.xml"
}
exported="nbd+unix:///vdb?socket=$work/nbd.sock"
dirty() {
    qemu-img map --output=json --image-opts "driver=nbd,export=vdb,server.type=unix,server.path=$work/nbd.sock,$1" |
        python3 -c 'import json, sys; print("dirty", sum(e["length"] for e in json.load(sys.stdin) if not e["data"]))'
}
export -f dirty
export work

# The guest stands still while an export of the disk as it is becomes the model of the copy that follows.
check "suspend" "suspended" virsh suspend "$domain"
pull ""
check "backup-begin, pull" "Backup started" virsh backup-begin "$domain" "$work/backup.xml"
check "domjobinfo" "Operation: *Backup" virsh domjobinfo "$domain"
check "the export is read" "" qemu-img convert -O raw "$exported" "$work/model-full.raw"
check "domjobabort ends it" "" virsh domjobabort "$domain"
eventually "no job" "None" 60 virsh domjobinfo "$domain"
push full ""
checkpoint_xml one
check "backup-begin, push, with a checkpoint" "Backup started" virsh backup-begin "$domain" "$work/backup.xml" \
    "$work/checkpoint.xml"
check "resume" "resumed" virsh resume "$domain"
eventually "the full backup ends" "None" 120 virsh domjobinfo "$domain"
check "domjobinfo --completed" "Completed" virsh domjobinfo "$domain" --completed
written "a full backup"
check "checkpoint-create-as" "two created" virsh checkpoint-create-as "$domain" two --diskspec vda,checkpoint=no \
    --diskspec vdb
check "checkpoint-list" "two" virsh checkpoint-list "$domain" --name
written "a second checkpoint"

check "suspend again" "suspended" virsh suspend "$domain"
pull one
check "backup-begin, pull, incremental" "Backup started" virsh backup-begin "$domain" "$work/backup.xml"
check "the export is read again" "" qemu-img convert -O raw "$exported" "$work/model-inc.raw"
check "its bitmap tells what has changed" "dirty [1-9]" dirty "x-dirty-bitmap=qemu:dirty-bitmap:changes"
check "resume with it" "resumed" virsh resume "$domain"
written "a pull backup begins"
check "the export stays as it was" "" qemu-img compare -f raw -F raw "$work/model-inc.raw" "$exported"
check "domjobabort of a guest that runs" "" virsh domjobabort "$domain"

check "suspend for the last backup" "suspended" virsh suspend "$domain"
pull one
check "backup-begin for its model" "Backup started" virsh backup-begin "$domain" "$work/backup.xml"
check "the model is read" "" qemu-img convert -O raw "$exported" "$work/model-inc.raw"
check "domjobabort after that" "" virsh domjobabort "$domain"
push inc one
check "backup-begin, push, incremental" "Backup started" virsh backup-begin "$domain" "$work/backup.xml"
check "resume for good" "resumed" virsh resume "$domain"
eventually "the incremental backup ends" "None" 120 virsh domjobinfo "$domain"
written "an incremental backup"
check "checkpoint-delete" "one deleted" virsh checkpoint-delete "$domain" one
written "a checkpoint less"
push more two
check "backup-begin since the second checkpoint" "Backup started" virsh backup-begin "$domain" "$work/backup.xml"
eventually "that ends, too" "None" 120 virsh domjobinfo "$domain"
check "checkpoint-delete of the last" "two deleted" virsh checkpoint-delete "$domain" two
push gone one
refused "an incremental backup of a checkpoint that has gone" "heckpoint" virsh backup-begin "$domain" \
    "$work/backup.xml"

check "blkdeviotune" "" virsh blkdeviotune "$domain" vdb --total-bytes-sec 4194304 --live
check "blkdeviotune tells it" "total_bytes_sec *: *4194304" virsh blkdeviotune "$domain" vdb
written "blkdeviotune"
check "blkdeviotune without limits" "" virsh blkdeviotune "$domain" vdb --total-bytes-sec 0 --live
check "domblkerror" "No errors" virsh domblkerror "$domain"

check "the writer is told to stop" "" in_guest "touch /mnt/stop"
eventually "the writer stops" "done" 60 in_guest "ls /mnt/done; sync"
check "all files have their sums" "^ *0 bad" in_guest \
    "cd /mnt; bad=0; for s in s[0-9]*; do sha256sum -c \$s >/dev/null 2>&1 || bad=\$((bad + 1)); done; echo \$bad bad"
check "the guest's file system is clean" "clean" in_guest "cd /; umount /mnt && fsck.ext4 -fn /dev/vdb && echo clean"
check "destroy" "destroyed" virsh destroy "$domain"
for image in data one two three copy aside full inc more; do
    check "qemu-img check of $image" "No errors" qemu-img check "$work/$image.qcow2"
done
check "the full backup is its model" "identical" qemu-img compare -F raw "$work/full.qcow2" "$work/model-full.raw"
check "the incremental one is put over it" "" qemu-img rebase -u -b "$work/full.qcow2" -F qcow2 "$work/inc.qcow2"
check "both are their model" "identical" qemu-img compare -F raw "$work/inc.qcow2" "$work/model-inc.raw"
check "fsck of the backup" "clean" sh -c \
    "fsck.ext4 -fy '$work/model-inc.raw' >/dev/null; [ \$? -le 1 ] && echo clean"
