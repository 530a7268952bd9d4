#!/bin/bash
# scripts/nested-kvm.sh COMMAND [ARGUMENT...] | test
# Runs a command on a machine that has /dev/kvm, wherever there is none: QEMU's software CPU with AMD's SVM under a
# Debian kernel whose root file system is this machine's. The command begins in this directory, as root, with this
# environment; what it prints and its exit status come back. What it writes is gone afterwards, but for /nested, which
# is .cache/nested here. test: the tests that say "needs /dev/kvm". As root. CPUS=N and MEMORY=N (MiB) are the
# machine's.
# QEMU=PROGRAM is another: out/qkvm, or what scripts/nested-qemu.sh makes. Debian's does not tell KVM of its guests'
# breakpoints.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
[ $# -gt 0 ] || fail "usage: $0 COMMAND [ARGUMENT...] | test"
[ "$(id -u)" = 0 ] || fail "run as root: the machine sees the files of this one"

if [ "$*" = test ]; then
    cd "$here/.."
    set -- bash -c 'for project in Qkvm.Accel.Tests Qkvm.Guest.Tests; do
        dotnet test artifacts/bin/$project/release/$project.dll --nologo \
            --filter "FullyQualifiedName~_KVM|FullyQualifiedName~.Kvm" || failed=1
    done; exit ${failed:-0}'
fi

need qemu-system-x86_64:qemu-system-x86 depmod:kmod cpio:cpio dpkg-deb:dpkg
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nested=$cache/nested
mkdir -p "$nested" "$work/job"

# The kernel of images/tiny.sh's generic guest, and an initrd with the modules that it takes to be a host.
download amd64 "$cache/debs-generic" linux-image-amd64 busybox-static
initrd=$cache/nested-initrd vmlinuz=$cache/nested-vmlinuz
if [ ! -e "$initrd" ] || [ "$0" -nt "$initrd" ]; then
    step "make the initrd"
    for deb in "$cache"/debs-generic/*.deb; do dpkg-deb -x "$deb" "$work/debs"; done
    version=$(basename "$work"/debs/boot/vmlinuz-*) version=${version#vmlinuz-}
    root=$work/root
    mkdir -p "$root"/{bin,proc,sys,dev,host,scratch,new}
    cp "$work/debs/bin/busybox" "$root/bin"
    depmod -b "$work/debs" "$version"
    for module in virtio_pci virtio_console 9p 9pnet_virtio overlay kvm_amd tun bridge veth af_packet \
        vhost_net vhost_vsock; do
        /sbin/modprobe -d "$work/debs" -S "$version" -D "$module" 2>/dev/null | sed -n 's/^insmod //p'
    done | awk '!seen[$1]++ { print $1 }' | while read -r file; do
        cp "$file" "$root/"
        echo "insmod /$(basename "$file")"
    done >"$root/modules"
    cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
sh /modules
mount -t 9p -o ro,version=9p2000.L,msize=512000,cache=loose host /host
mount -t tmpfs -o size=90% scratch /scratch
mkdir /scratch/upper /scratch/work
mount -t overlay -o lowerdir=/host,upperdir=/scratch/upper,workdir=/scratch/work root /new
mkdir -p /new/nested /new/job /dev/pts /dev/shm
mount -t 9p -o version=9p2000.L,msize=512000 nested /new/nested
mount -t 9p -o version=9p2000.L job /new/job
mount -t devpts devpts /dev/pts
for place in proc sys dev; do mount --move /$place /new/$place; done
for place in tmp run dev/shm; do mount -t tmpfs tmpfs /new/$place; done
ip link set lo up
exec switch_root /new /bin/bash /job/run
INIT
    chmod 755 "$root/init"
    cp "$work/debs/boot/vmlinuz-$version" "$vmlinuz"
    (cd "$root" && find . | cpio --quiet -o -H newc) >"$initrd"
fi

{
    export -p
    printf 'cd %q\n' "$PWD"
    printf '('
    printf '%q ' "$@"
    printf ') >/dev/vport0p1 2>&1 </dev/null\n'
    printf 'echo $? >/job/status\nsync\necho o >/proc/sysrq-trigger\nsleep 60\n'
} >"$work/job/run"

mkfifo "$work/out"
cat "$work/out" &
reader=$!
share() { echo "local,path=$1,mount_tag=$2,security_model=none,multidevs=remap${3:-}"; }
"${QEMU:-qemu-system-x86_64}" -L /usr/share/seabios -L /usr/share/qemu -accel tcg,thread=multi -machine q35 \
    -cpu EPYC,+svm -smp "${CPUS:-2}" -m "${MEMORY:-3072}" -nodefaults -display none -no-reboot \
    -kernel "$vmlinuz" -initrd "$initrd" \
    -append "console=ttyS0 panic=-1 mitigations=off" -serial "file:$work/console" \
    -chardev "file,id=out,path=$work/out" -device virtio-serial -device virtserialport,chardev=out \
    -virtfs "$(share / host ,readonly=on)" -virtfs "$(share "$nested" nested)" -virtfs "$(share "$work/job" job)" \
    </dev/null 2>"$work/errors" || cat "$work/errors" >&2
if [ -e "$work/job/status" ]; then
    wait "$reader"
    exit "$(cat "$work/job/status")"
fi
kill "$reader" 2>/dev/null
tail -n 30 "$work/console" >&2
fail "the machine ended before the command did; above is the end of its console"
