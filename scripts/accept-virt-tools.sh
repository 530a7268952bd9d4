#!/bin/bash
# scripts/accept-virt-tools.sh [tutorial|imports|installer|desktop|clouds]…
# What texts for beginners type around libvirt, and what clouds ask of it, with qkvm as the emulator: a domain's XML
# from a tutorial with virsh define, console, autostart and virt-clone; virt-install --import; virt-install of Debian's
# installer; virt-xml, virt-top, virt-viewer and virt-manager on a screen of their own; domains as OpenStack and
# KubeVirt make them. Needs what accept-libvirt.sh needs, and virtinst; a part whose tools are missing is skipped.
# scripts/libvirt/lib.sh names its variables; SCREENS=DIRECTORY keeps the pictures. The last line: N passed, N failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/libvirt/lib.sh
tools="virt-install:virtinst virt-clone:virtinst virt-xml:virtinst"
own_libvirt "$@"

has() { command -v "$1" >/dev/null || { echo "skipped: $2 needs $1 (apt install $1)"; return 1; }; }

# disk NAME: a disk of its own over the demo disk.
disk() { qemu-img create -q -f qcow2 -b "$DISK" -F qcow2 "$work/$1.qcow2"; }

# make NAME XML TYPE: the domain's XML with its paths, as tutorials do it.
make() {
    sed -e "s|TYPE|$3|; s|NAME|$1|; s|EMULATOR|$QKVM|; s|FOLDER|$work|" "scripts/libvirt/$2.xml" >"$work/$1.xml"
}

# up NAME: the domain runs, and its agent answers.
up() {
    domain=$1
    eventually "$1 runs" running 30 virsh domstate "$1"
    [[ $(virsh domstate "$1") = *running* ]] || return
    eventually "$1: the agent answers" return 300 virsh qemu-agent-command "$1" '{"execute":"guest-ping"}'
}

down() {
    check "shutdown $1" "shut" virsh shutdown "$1"
    eventually "$1 is off" "shut off" 120 virsh domstate "$1"
}

tutorial() {
    local name=base-$1 clone
    echo "== a tutorial's domain, $1"
    disk "$name"
    truncate -s 64M "$work/$name-data.img"
    make "$name" tutorial "$1"
    check "define" "defined" virsh define "$work/$name.xml"
    check "start" "started" virsh start "$name"
    up "$name"
    check "console" "logged in" login
    check "its processor" "Haswell, no TSX" in_guest "grep -m1 'model name' /proc/cpuinfo"
    check "AVX2 without TSX" "^ *0 1" in_guest "echo \$(grep -c rtm /proc/cpuinfo) \$(grep -c avx2 /proc/cpuinfo)"
    check "two virtio disks" "vda vdb" in_guest "echo \$(lsblk -dno NAME /dev/vda /dev/vdb)"
    check "one EHCI, three UHCI" "^ *4" in_guest "lspci -n | grep -cE '8086:(293a|2934|2935|2936)'"
    check "the tablet" "QEMU USB Tablet" in_guest "cat /sys/bus/usb/devices/*/product"
    check "no HPET" "no-hpet" in_guest "ls /sys/bus/acpi/devices | grep -q PNP0103 || echo no-hpet"
    check "the network" " 0% packet loss" in_guest "ping -c 3 192.168.122.1"
    check "the other disk holds data" "kept" in_guest \
        "echo kept | dd of=/dev/vdb conv=fsync status=none; dd if=/dev/vdb bs=512 count=1 iflag=direct status=none"
    check "the clock keeps up" "^ *[0-9.]+ [0-9.]+ close" clock_keeps_up
    check "autostart" "marked as autostarted" virsh autostart "$name"
    check "dominfo knows" "Autostart: +enable" virsh dominfo "$name"
    down "$name"

    kill "$daemon" && wait "$daemon" 2>/dev/null
    rm -f /run/libvirt/qemu/autostarted                         # as after the host's start
    start_daemon
    up "$name"
    check "autostart --disable" "unmarked" virsh autostart --disable "$name"
    down "$name"

    check "virt-clone --auto-clone" "created successfully" virt-clone --original "$name" --name "$name-1" --auto-clone
    check "virt-clone to files" "created successfully" virt-clone -o "$name" -n "$name-2" -f "$work/$name-2.qcow2" \
        -f "$work/$name-2-data.img"
    sed -e "s|<name>.*|<name>$name-3</name>|; /<uuid>/d; /<mac /d; s|$name.qcow2|$name-3.qcow2|; \
        s|$name-data|$name-3-data|" <(virsh dumpxml "$name") >"$work/$name-3.xml"
    cp "$work/$name.qcow2" "$work/$name-3.qcow2"
    cp "$work/$name-data.img" "$work/$name-3-data.img"
    check "define from an edited XML" "defined" virsh define "$work/$name-3.xml"
    for clone in "$name-1" "$name-2" "$name-3"; do
        check "start $clone" "started" virsh start "$clone"
        up "$clone"
        check "it has the disk's data" "kept" in_guest "dd if=/dev/vdb bs=4 count=1 status=none"
        virsh destroy "$clone" >/dev/null
    done
    check "each has its own address" "^4$" sh -c "for d in $name $name-1 $name-2 $name-3; do virsh domiflist \$d; done \
        | grep -o '52:54:[0-9a-f:]*' | sort -u | wc -l"
    for clone in "$name" "$name-1" "$name-2" "$name-3"; do check "undefine" "undefined" virsh undefine "$clone"; done
}

# Ten seconds of the guest's clock against ten of ours.
clock_keeps_up() {
    python3 - <<PYTHON
import subprocess, time
def guest():
    out = subprocess.run(["virsh", "domtime", "$domain"], capture_output=True, text=True, check=True).stdout
    return int(out.split()[1])
g, h = guest(), time.time()
time.sleep(10)
g, h = guest() - g, time.time() - h
print(g, round(h, 1), "close" if abs(g - h) < 1.5 else "apart")
PYTHON
}

# create NAME ARGUMENT…
create() {
    local name=$1
    shift
    check "virt-install $name" "Domain creation completed|Domain is still running|restart your domain" \
        virt-install --name "$name" --memory 1024 --network network=default --graphics vnc --noautoconsole \
        --virt-type "$type" --boot "emulator=$QKVM" "$@"
}

imports() {
    type=$1
    echo "== virt-install --import, $1"
    disk "known-$1"
    disk "any-$1"
    create "known-$1" --import --disk "path=$work/known-$1.qcow2" --osinfo debian11 --vcpus 2
    create "any-$1" --import --disk "path=$work/any-$1.qcow2" --osinfo detect=on,require=off
    up "known-$1"
    check "console" "logged in" login
    check "it is a q35" "machine='pc-q35" virsh dumpxml "$domain"
    down "known-$1"
    domain=any-$1
    check "console" "logged in" login
    check "it is a pc" "machine='pc-i440fx" virsh dumpxml "$domain"
    check "virt-xml shows" "model type=.vga" virt-xml "$domain" --edit --video model.type=vga --print-xml
    check "virt-xml adds a disk to the running guest" "successful" virt-xml "$domain" --add-device --update \
        --disk "size=0.05,format=qcow2,target.bus=virtio,path=$work/more-$1.qcow2"
    check "virt-xml edits" "defined successfully" virt-xml "$domain" --edit --vcpus 2
    check "virt-xml removes it" "successful" virt-xml "$domain" --remove-device --disk "path=$work/more-$1.qcow2" \
        --update
    check "destroy" "destroyed" virsh destroy "$domain"
    check "undefine" "undefined" virsh undefine "$domain"
    check "undefine" "undefined" virsh undefine "known-$1"
}

# Debian's installer from its netboot package, over the serial port, to its first screen.
installer() {
    local from=/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64
    type=$1
    echo "== Debian's installer, $1"
    [ -e "$from/linux" ] || { echo "skipped: needs debian-installer-12-netboot-amd64"; return; }
    create "installer-$1" --disk "size=2,path=$work/new-$1.qcow2" --osinfo debian11 \
        --install "kernel=$from/linux,initrd=$from/initrd.gz,kernel_args=console=ttyS0,kernel_args_overwrite=yes"
    domain=installer-$1
    check "the installer's first screen" "Select a language" first_screen
    check "destroy" "destroyed" virsh destroy "$domain"
    check "undefine" "undefined" virsh undefine "$domain" --remove-all-storage
}

first_screen() {
    python3 - "$domain" <<'PYTHON'
import os, pty, re, select, sys, time
pid, fd = pty.fork()
if pid == 0: os.execvp("virsh", ["virsh", "console", "--force", sys.argv[1]])
seen, end = b"", time.time() + 280
while b"Select a language" not in seen and time.time() < end:
    if select.select([fd], [], [], 5)[0]: seen += os.read(fd, 4096)
os.write(fd, b"\x1d")
print(re.sub(rb"\x1b[^a-zA-Z]*[a-zA-Z]|[^ -~\n]", b"", seen)[-3000:].decode())
PYTHON
}

# A screen, a viewer and a manager on it, both showing the guest, and a list of what runs.
desktop() {
    type=$1
    has Xvfb desktop && has virt-manager desktop && has virt-viewer desktop && has dbus-run-session desktop \
        && has compare desktop || return
    echo "== virt-manager, virt-viewer and virt-top, $1"
    export DISPLAY=:77 HOME=$work/home GSETTINGS_BACKEND=memory NO_AT_BRIDGE=1 XDG_RUNTIME_DIR=$work/home
    mkdir -p "$HOME"
    Xvfb :77 -screen 0 1280x1000x24 >"$work/xvfb.log" 2>&1 &
    disk "shown-$1"
    create "shown-$1" --import --disk "path=$work/shown-$1.qcow2" --osinfo debian11
    up "shown-$1"
    eventually "virt-viewer shows the guest" "^alike" 90 shows virt-viewer --wait "$domain"
    eventually "virt-manager shows the guest" "^alike" 90 shows virt-manager --no-fork --show-domain-console "$domain"
    has virt-top desktop && check "virt-top lists the guest" "$domain" virt-top --script --stream -n 2 -d 1
    check "destroy" "destroyed" virsh destroy "$domain"
    check "undefine" "undefined" virsh undefine "$domain"
}

# shows PROGRAM ARGUMENT…: "alike" once the guest's login prompt is found in a picture of the program's window.
shows() {
    local program
    dbus-run-session -- "$1" -c qemu:///system "${@:2}" >"$work/$1.log" 2>&1 &
    program=$!
    sleep 12
    import -window root "$work/$1.png"
    virsh screenshot "$domain" "$work/guest.png" >/dev/null
    kill "$program"
    wait "$program" 2>/dev/null
    [ -z "${SCREENS:-}" ] || cp "$work/$1.png" "$work/guest.png" "$SCREENS/"
    convert "$work/guest.png" -crop 110x16+0+48 +repage "$work/part.png"
    convert "$work/$1.png" -crop 500x200+0+0 +repage "$work/whole.png"
    if compare -metric RMSE -dissimilarity-threshold 1 -subimage-search "$work/whole.png" "$work/part.png" null: 2>&1 \
        | awk -F'[()]' '{ print $2; exit $2 > 0.1 }'; then echo alike; else echo "another picture"; fi
}

clouds() {
    local name machine cd
    ip link add br-int type bridge && ip link set br-int up
    ip tuntap add tap0 mode tap vnet_hdr && ip link set tap0 up
    for machine in pc q35; do
        name=instance-$1-$machine
        echo "== a domain as Nova's, $name"
        disk "$name"
        truncate -s 1M "$work/$name.config"
        make "$name" nova "$1"
        [ "$machine" = pc ] && cd="hda ide" || cd="sda sata"
        sed -i "s|MACHINE|$machine|; s|CDROM|${cd% *}|; s|CDBUS|${cd#* }|" "$work/$name.xml"
        check "define" "defined" virsh define "$work/$name.xml"
        check "start" "started" virsh start "$name"
        up "$name"
        check "its maker" "OpenStack Nova" in_guest "cat /sys/class/dmi/id/product_name"
        check "the disk's serial" "6a4f0d8e-5d25-49f2-8" in_guest "cat /sys/block/vda/serial"
        check "the card's MTU" "mtu 1442" in_guest "ip link show eth0"
        check "the log of the console" "Debian GNU/Linux" cat "$work/$name.console"
        check "where the kernel lies is told" "VMCOREINFO" core_note
        down "$name"
        check "undefine" "undefined" virsh undefine "$name"
    done
    name=vmi-$1
    echo "== a domain as KubeVirt's, $name"
    disk "$name"
    truncate -s 1M "$work/$name.config" "$work/$name.iso"
    make "$name" kubevirt "$1"
    check "define" "defined" virsh define "$work/$name.xml"
    check "start" "started" virsh start "$name"
    up "$name"
    check "its maker" "KubeVirt" in_guest "cat /sys/class/dmi/id/sys_vendor"
    check "the disks" "sda sr0 vda" in_guest "echo \$(lsblk -dno NAME /dev/vda /dev/sda /dev/sr0)"
    check "the card's MTU" "mtu 1480" in_guest "ip link show eth0"
    check "the log of the console" "Debian GNU/Linux" cat "$work/$name.console"
    check "statistics" "available [0-9]" virsh dommemstat "$name"
    down "$name"
    check "undefine" "undefined" virsh undefine "$name"
}

# The kernel's note in a dump of the guest's memory.
core_note() {
    in_guest "modprobe qemu_fw_cfg" >/dev/null
    virsh dump "$domain" "$work/core" --memory-only --live >/dev/null
    head -c 1M "$work/core" | grep -a -o -m1 VMCOREINFO
    rm -f "$work/core"
}

export -f clock_keeps_up first_screen shows core_note
export work
parts="$*"
for part in ${parts:-tutorial imports installer desktop clouds}; do
    for type in ${TYPES:-qemu}; do "$part" "$type"; done
done
