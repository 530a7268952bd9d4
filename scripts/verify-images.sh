#!/bin/bash
# scripts/verify-images.sh [FORMAT...]: a Debian guest's fio writes, reads and trims a virtio disk of each writable
# format at random places and judges what it reads; then QEMU's tools judge the image: that it is sound, and that it
# holds what the guest has seen. SIZE (64M), SEED (now's), QKVM.
set -euo pipefail
cd "$(dirname "$0")/.."
. images/lib.sh
need qemu-img:qemu-utils

qkvm=${QKVM:-out/qkvm} size=${SIZE:-64M} seed=${SEED:-$RANDOM}
[ $# -gt 0 ] || set -- raw qcow2 vmdk vdi vpc vhdx luks
[ -e .cache/tiny/vmlinuz ] || images/tiny.sh .cache/tiny
[ -e .cache/fio/initrd.cpio ] || images/program.sh .cache/fio fio || fail "no fio"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat .cache/fio/initrd.cpio .cache/tiny/initrd.cpio.gz >"$work/initrd" # an uncompressed part comes first

secret=(--object secret,id=key,data=secret)
echo "seed $seed"
failed=0
for format; do
    image=$work/disk.$format more='' options=()
    case $format in
    luks) more=,key-secret=key options=(-o key-secret=key,iter-time=10) ;;
    vpc) options=(-o force_size=on) ;;    # no cylinders, heads and sectors to round to
    esac
    "$qkvm" img create -q "${secret[@]}" -f "$format" "${options[@]}" "$image" "$size"
    disk=driver=$format,node-name=disk,discard=unmap,file.driver=file,file.discard=unmap,file.filename=$image$more
    began=$(date +%s)
    timeout 300 "$qkvm" -m 512M -nodefaults -display none -serial stdio -no-reboot \
        -kernel .cache/tiny/vmlinuz -initrd "$work/initrd" \
        -append "console=ttyS0 quiet panic=-1 rdinit=/fio-init fio.verify=$seed" -object secret,id=key,data=secret \
        -blockdev "$disk" \
        -device virtio-blk-pci,drive=disk </dev/null >"$work/log" 2>&1 || true
    took=$(($(date +%s) - began))
    said=$(tr -d '\r' <"$work/log")
    hash=$(sed -n 's/^HASH \([0-9a-f]*\).*/\1/p' <<<"$said")
    opts="driver=$format,file.filename=$image$more" verdict=ok
    grep -q '^VERIFY ok' <<<"$said" || { verdict='fio fails'; tail -n 30 <<<"$said"; }
    case $format in raw | vpc | luks) ;; *) # QEMU has no check for these
        qemu-img check -q --image-opts "$opts" || verdict='not sound' ;;
    esac
    qemu-img convert "${secret[@]}" --image-opts "$opts" -O raw "$work/raw"
    [ "$(sha256sum <"$work/raw" | cut -d' ' -f1)" = "$hash" ] || verdict='QEMU reads another disk'
    printf '%-6s %-24s %3d s  %s\n' "$format" "$verdict" "$took" "$(grep '^VERIFY' <<<"$said")"
    [ "$verdict" = ok ] || failed=1
    rm -f "$image" "$work/raw"
done
exit $failed
