#!/bin/bash
# scripts/accept-vsock.sh [EMULATOR]: a Linux guest with -device vhost-vsock-pci and its host talk by socat, each to
# the other. Where there is no /dev/vhost-vsock it does so on the machine of scripts/nested-kvm.sh. ACCEL is
# another accelerator than the software CPU. As root.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."
emulator=${1:-out/qkvm}
[ -e /dev/vhost-vsock ] || modprobe vhost_vsock 2>/dev/null
[ -e /dev/vhost-vsock ] || [ -n "${NESTED:-}" ] || {
    need socat:socat cpio:cpio
    NESTED=1 exec scripts/nested-kvm.sh scripts/accept-vsock.sh "$emulator"
}
[ -e /dev/vhost-vsock ] || fail "no /dev/vhost-vsock"

cards=.cache/cards cid=42
[ -e $cards/initrd.cpio.gz ] || images/tiny.sh $cards generic || fail "no tiny Linux guest with all drivers"
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
mkdir -p "$work/root/usr/bin"
cp "$(command -v socat)" "$work/root/usr/bin"
ldd "$(command -v socat)" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$work/root/$(dirname "$library")"
    cp -L "$library" "$work/root/$library"
done
cat >"$work/root/run" <<'END'
#!/bin/sh
modprobe -a virtio_pci vmw_vsock_virtio_transport
echo "the guest to its host" | socat -t 60 - VSOCK-CONNECT:2:1234
echo GUEST LISTENS
socat VSOCK-LISTEN:4321 EXEC:'sed -u s/^/guest:/'
END
chmod +x "$work/root/run"
(cd "$work/root" && find . | cpio --quiet -o -H newc) >"$work/initrd"
cat $cards/initrd.cpio.gz >>"$work/initrd" # an uncompressed part comes first

socat -u VSOCK-LISTEN:1234 CREATE:"$work/heard" &
listener=$!
accelerator=${ACCEL:-tcg}
[ -z "${NESTED:-}" ] || accelerator=kvm:tcg # a software CPU on a software CPU takes for ever
timeout 900 "$emulator" -machine pc,accel=$accelerator -m 256 -nodefaults -display none -serial stdio -no-reboot \
    -kernel $cards/vmlinuz -initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1 tiny=/run" \
    -device vhost-vsock-pci,guest-cid=$cid </dev/null >"$work/console" 2>"$work/errors" &
machine=$!
for ((i = 0; i < 600; i++)); do
    grep -q "GUEST LISTENS" "$work/console" && break
    kill -0 $machine 2>/dev/null || break
    sleep 1
done
wait $listener
heard=$(cat "$work/heard")
for ((i = 0; i < 60; i++)); do
    answer=$(echo "the host to its guest" | socat -t 60 - VSOCK-CONNECT:$cid:4321) && break
    sleep 1
done
wait $machine
tr -d '\r' <"$work/console" | tail -n 5
cat "$work/errors" >&2
echo "the host has heard: $heard"
echo "the guest answers: ${answer:-}"
[ "$heard" = "the guest to its host" ] && [ "${answer:-}" = "guest:the host to its guest" ] || fail "not what was said"
