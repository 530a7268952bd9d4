#!/bin/bash
# scripts/bench-network.sh [OTHER_QKVM]: iperf3 and ping over tap, or with NET=user the user network, between the host
# and a Debian guest on the software CPU, under out/qkvm, another qkvm and qemu-system-x86_64 in turns, in a network
# namespace of its own; needs root. The median of RUNS (default 3) counts; SECONDS_EACH (default 5), SMP (default 1),
# CARD (default virtio-net-pci), TESTS (default out1,in1,out4,in4,udpout,udpin,ping: iperf3 out of the guest and in,
# with 1 and 4 streams; UDP packets of 64 bytes; round trips). Bits are millions a second, round trips microseconds:
# median and 99th percentile.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."

if [ "${1:-}" != --inside ]; then
    [ -e .cache/tiny/initrd.cpio.gz ] || images/tiny.sh .cache/tiny || fail "no tiny Linux guest"
    [ -e .cache/iperf3/initrd.cpio ] || images/program.sh .cache/iperf3 iperf3 || fail "no iperf3"
    need iperf3:iperf3 ip:iproute2
    exec unshare -n "$here/bench-network.sh" --inside "$@"
fi
# The small kernel has no driver for other cards than virtio's.
tiny=.cache/tiny
case ${CARD:-virtio} in virtio*) ;; *)
    tiny=.cache/cards
    [ -e $tiny/initrd.cpio.gz ] || images/tiny.sh $tiny generic || fail "no tiny Linux guest with all drivers" ;;
esac
other=${2:-} runs=${RUNS:-3} seconds=${SECONDS_EACH:-5} smp=${SMP:-1} card=${CARD:-virtio-net-pci}
tests=${TESTS:-out1,in1,out4,in4,udpout,udpin,ping}

work=$(mktemp -d)
trap 'kill $server 2>/dev/null; rm -rf "$work"' EXIT
cat .cache/iperf3/initrd.cpio $tiny/initrd.cpio.gz >"$work/initrd" # an uncompressed part comes first
printf '#!/bin/sh\nip address add 10.9.0.1/24 dev "$1" && ip link set "$1" up\n' >"$work/ifup"
chmod +x "$work/ifup"
ip link set lo up
iperf3 -s >"$work/server" 2>&1 &
server=$!
case ${NET:-tap} in
    tap) netdev="tap,id=n,script=$work/ifup,downscript=no" guest=10.9.0.2/24 host=10.9.0.1 ;;
    user) netdev=user,id=n guest=10.0.2.15/24 host=10.0.2.2 ;;
    *) fail "NET=$NET: tap or user" ;;
esac

# measure EMULATOR: "test value" lines.
measure() {
    timeout 600 "$1" -accel tcg -cpu max -smp "$smp" -m 512 -nodefaults -display none -serial stdio \
        -monitor none -no-reboot -kernel "$tiny/vmlinuz" -initrd "$work/initrd" \
        -append "console=ttyS0 quiet panic=-1 rdinit=/iperf3-init net.address=$guest net.host=$host \
net.seconds=$seconds net.tests=$tests" \
        -netdev "$netdev" -device "$card,netdev=n" </dev/null 2>"$work/errors" |
        tr -d '\r' | tee -a "${LOG:-/dev/null}" | sed -n 's/^NET \([a-z0-9]*\)=/\1 /p'
    [ ! -s "$work/errors" ] || cat "$work/errors" >&2
}

median() { sort -n | sed -n "$(((runs + 1) / 2))p"; }

emulators=(out/qkvm)
[ -z "$other" ] || emulators+=("$other")
command -v qemu-system-x86_64 >/dev/null && emulators+=(qemu-system-x86_64)
for ((run = 0; run < runs; run++)); do
    for i in "${!emulators[@]}"; do measure "${emulators[i]}" >>"$work/results.$i"; done
done

printf '%-24s' "median of $runs, smp $smp"
for emulator in "${emulators[@]}"; do printf '%22s' "$(basename "$emulator")"; done
echo
for test in ${tests//,/ }; do
    case $test in ping) columns="2 3" ;; *) columns=2 ;; esac
    for column in $columns; do
        unit=Mbit/s
        case $test in udp*) unit=packets/s ;; ping) unit="us, median" ;; esac
        [ "$column" = 2 ] || unit="us, 99th percentile"
        printf '%-24s' "$test $unit"
        for i in "${!emulators[@]}"; do
            value=$(awk -v test="$test" -v column="$column" '$1 == test { print $column }' "$work/results.$i" | median)
            case $test in ping) scale=1000 ;; udp*) scale=1 ;; *) scale=0.001 ;; esac
            printf '%22s' "$(awk -v value="$value" -v scale=$scale 'BEGIN { printf "%.0f", value * scale }')"
        done
        echo
    done
done
