#!/bin/bash
# scripts/accept-sharing.sh [EMULATOR]: folders of the host in a Debian guest whose root file system is this machine's
# by 9P, read only. In a shared folder of each security model, and of virtiofsd, the guest clones, commits and checks
# with git, compiles with make and gcc, keeps owners, modes, times, devices and attributes with cp and tar, and does
# what tests/guests/fileuse.c lists; the host looks at what came of it. Then QEMU's guest reads what ours has made, and
# the other way round. Prints ok and FAILED lines. As root. MODELS names fewer of them; LOG is a file for the consoles;
# ACCEL another accelerator than the software CPU.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."
emulator=${1:-out/qkvm}
[ "$(id -u)" = 0 ] || fail "run as root: owners and devices are part of it"
need git:git gcc:gcc make:make setfattr:attr cpio:cpio
models=${MODELS:-passthrough mapped-xattr mapped-file none virtiofs}
virtiofsd=/usr/lib/qemu/virtiofsd
if [[ $models = *virtiofs* && ! -x $virtiofsd ]]; then
    echo "skipped virtiofs: no $virtiofsd (Debian: qemu-system-common)"
    models=${models/virtiofs/}
fi
cards=.cache/cards
[ -e $cards/initrd.cpio.gz ] || images/tiny.sh $cards generic || fail "no tiny Linux guest with all drivers"
accelerator=${ACCEL:-tcg}

work=$(mktemp -d)
servers=()
trap 'kill "${servers[@]}" 2>/dev/null; rm -rf "$work"' EXIT
oks=0 failures=0
ok() { echo "ok $*"; oks=$((oks + 1)); }
failed() { echo "FAILED $*"; failures=$((failures + 1)); }
check() { if "${@:2}" >/dev/null 2>&1; then ok "$1"; else failed "$1"; fi; } # check WHAT COMMAND...
same() { if [ "$2" = "$3" ]; then ok "$1"; else failed "$1: '$2' is not '$3'"; fi; }

# What the guest does, by name: it finds scripts/sharing-guest.sh and fileuse.c in /tmp of its root.
mkdir -p "$work/initrd/job"
cp scripts/sharing-guest.sh tests/guests/fileuse.c "$work/initrd/job"
cat >"$work/initrd/run" <<'END_OF_RUN'
#!/bin/sh
word() { sed -n "s/.* $1=\([^ ]*\).*/\1/p" /proc/cmdline; }
modprobe -a 9p 9pnet_virtio virtiofs 2>/dev/null
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose root /mnt || { echo FAILED root; exit; }
for place in proc sys dev; do mount -o bind /$place /mnt/$place; done
for place in tmp run root; do mount -t tmpfs tmpfs /mnt/$place; done
cp /job/* /mnt/tmp
for share in $(word shares | tr , ' '); do
    model=${share%:*} cache=${share#*:}
    case $model in
    virtiofs) mount -t virtiofs "$model" /mnt/mnt ;;
    *) mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=$cache "$model" /mnt/mnt ;;
    esac || { echo "FAILED mount $model"; continue; }
    HOME=/root SHARE="$model" CACHE=$cache chroot /mnt /bin/bash /tmp/sharing-guest.sh $(word todo | tr , ' ')
    umount /mnt/mnt || echo "FAILED unmount $model"
done
echo GUEST DONE
END_OF_RUN
chmod +x "$work/initrd/run"
(cd "$work/initrd" && find . | cpio --quiet -o -H newc) >"$work/initrd.cpio"
cat $cards/initrd.cpio.gz >>"$work/initrd.cpio" # an uncompressed part comes first

# guest EMULATOR WORK MODEL:CACHE...: what it says about $work/MODEL, without carriage returns.
guest() {
    local emulator=$1 todo=$2 share model devices=()
    shift 2
    for share; do
        model=${share%:*}
        mkdir -p "$work/$model"
        if [ "$model" = virtiofs ]; then
            rm -f "$work/fs.sock"
            $virtiofsd --socket-path="$work/fs.sock" -o "source=$work/$model,xattr" \
                >>"$work/virtiofsd" 2>&1 &
            servers+=($!)
            for ((i = 0; i < 100; i++)); do [ ! -S "$work/fs.sock" ] || break; sleep 0.1; done
            devices+=(-chardev "socket,id=fs,path=$work/fs.sock" -device vhost-user-fs-pci,chardev=fs,tag=virtiofs)
        else
            devices+=(-virtfs "local,path=$work/$model,mount_tag=$model,security_model=$model")
        fi
    done
    timeout 3000 "$emulator" -M pc,accel=$accelerator,memory-backend=mem -smp 2 -m 1024 -nodefaults -display none \
        -cpu max -object memory-backend-memfd,id=mem,size=1024M,share=on -serial stdio -monitor none -no-reboot \
        -kernel $cards/vmlinuz -initrd "$work/initrd.cpio" \
        -append "console=ttyS0 quiet panic=-1 tiny=/run todo=$todo shares=$(IFS=,; echo "$*") end" \
        -virtfs local,path=/,mount_tag=root,security_model=passthrough,readonly=on,multidevs=remap "${devices[@]}" \
        </dev/null 2>"$work/errors" | tr -d '\r' | tee -a "${LOG:-/dev/null}"
    [ ! -s "$work/errors" ] || sed 's/^/  /' "$work/errors" >&2
}

# tell: counts and prints the ok and FAILED lines of a guest; the rest it keeps.
tell() {
    local line
    while read -r line; do
        case $line in
        "ok "*) ok "${line#ok }" ;;
        "FAILED "*) failed "${line#FAILED }" ;;
        esac
    done <"$1"
    grep -q "GUEST DONE" "$1" || failed "the guest did not come to its end: $(tail -n 3 "$1" | tr '\n' ' ')"
}

# Caches differ, so that each way of a guest's kernel is used.
declare -A cache=([passthrough]=none [mapped-xattr]=mmap [mapped-file]=loose [none]=mmap [virtiofs]=auto)
shares=()
for model in $models; do
    shares+=("$model:${cache[$model]}")
    mkdir -p "$work/$model"
    git init -q --bare "$work/$model/origin.git"
done
guest "$emulator" root,git,build,owners,attributes,use "${shares[@]}" >"$work/said"
tell "$work/said"

for model in $models; do
    at=$work/$model
    check "$model: the host's git finds the guest's repository whole" \
        git -c safe.directory='*' -C "$at/origin.git" fsck --strict
    same "$model: the host reads what the guest has pushed" \
        "$(git -c safe.directory='*' -C "$at/origin.git" log --format=%s main 2>/dev/null | tr '\n' ' ')" \
        "second first "
    case $model in
    mapped-*) same "$model: the host's files are its user's" "$(stat -c '%U %a' "$at/owners/special")" "root 600" ;;
    *) same "$model: the host's files are the guest's users'" "$(stat -c '%u:%g %a' "$at/owners/special")" \
        "1234:4321 4751" ;;
    esac
done

# Trees of another's: read, and made, in turns.
if command -v qemu-system-x86_64 >/dev/null; then
    for model in mapped-xattr mapped-file; do
        [[ " $models " = *" $model "* ]] || continue
        for maker in "$emulator" qemu-system-x86_64; do
            rm -rf "${work:?}/$model"
            guest "$maker" owners,list "$model:none" >"$work/made"
            guest "$emulator" list "$model:none" >"$work/ours"
            guest qemu-system-x86_64 list "$model:none" >"$work/theirs"
            listed=$(sed -n 's/^LISTED //p' "$work/made")
            what="$model, made by $(basename "$maker"): read by"
            check "$what its maker, with $(echo "$listed" | wc -l) lines" test "$(echo "$listed" | wc -l)" -gt 10
            same "$what qkvm" "$(sed -n 's/^LISTED //p' "$work/ours")" "$listed"
            same "$what qemu" "$(sed -n 's/^LISTED //p' "$work/theirs")" "$listed"
        done
    done
else
    echo "skipped QEMU's trees: no qemu-system-x86_64"
fi
echo "$(basename "$0"): $oks ok, $failures FAILED"
[ $failures = 0 ]
