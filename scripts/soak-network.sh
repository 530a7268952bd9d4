#!/bin/bash
# scripts/soak-network.sh [SECONDS [RATE]]: a guest on the user network opens and closes RATE (default 500) connections
# a second, SECONDS (default 60) long, to a server of this host, in a network namespace of its own; needs root. Shows
# how many it made, and what the process holds before and after: descriptors, memory, entries of `info usernet`.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."

if [ "${1:-}" != --inside ]; then
    [ -e .cache/tiny/initrd.cpio.gz ] || images/tiny.sh .cache/tiny || fail "no tiny Linux guest"
    need ip:iproute2 gcc:gcc cpio:cpio socat:socat
    exec unshare -n "$here/soak-network.sh" --inside "$@"
fi
seconds=${2:-60} rate=${3:-500} ours=${QKVM:-out/qkvm}

work=$(mktemp -d)
trap 'kill -- $server $guest 2>/dev/null; wait 2>/dev/null; rm -rf "$work"' EXIT
server= guest=
mkdir "$work/root"
gcc -O2 -static -o "$work/root/connections" tests/guests/connections.c || fail "cannot build the program"
cat >"$work/root/soak" <<'END'
#!/bin/sh
ip link set eth0 up; ip address add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
sysctl -q -w net.ipv4.ip_local_port_range="1024 65000"
for word in $(cat /proc/cmdline); do case $word in soak.*) eval "${word#soak.}" ;; esac; done
/connections open 10.0.2.2 7000 "$rate" 5; sleep 20
echo SOAK BEGINS
/connections open 10.0.2.2 7000 "$rate" "$seconds"; sleep 20
echo SOAK ENDS
sleep 3
END
chmod +x "$work/root/soak"
(cd "$work/root" && find . | cpio --quiet -o -H newc -R 0:0) >"$work/initrd"
cat .cache/tiny/initrd.cpio.gz >>"$work/initrd"
ip link set lo up
setsid "$work/root/connections" serve 7000 &
server=-$!

mkfifo "$work/output"
"$ours" -accel tcg -cpu max -m 256 -mem-prealloc -nodefaults -display none -serial stdio -no-reboot \
    -monitor "unix:$work/monitor,server=on,wait=off" -nic user,model=virtio-net-pci -kernel .cache/tiny/vmlinuz \
    -initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1 tiny=/soak soak.rate=$rate soak.seconds=$seconds" \
    >"$work/output" </dev/null &
guest=$!

held() {
    printf '%s: %s descriptors, %s KiB resident, %s s of CPU time, %s connections\n' "$1" \
        "$(ls "/proc/$guest/fd" | wc -l)" \
        "$(sed -n 's/VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$guest/status")" \
        "$(awk '{ print ($14 + $15) / 100 }' "/proc/$guest/stat")" \
        "$(echo info usernet | socat -t 2 - "unix:$work/monitor" | grep -c 'TCP\[')"
}

while read -r line; do
    case $line in
    CONNECTIONS*) echo "made, failed, seconds: ${line#CONNECTIONS }" ;;
    *BEGINS*) held before ;;
    *ENDS*) held after ;;
    esac
done <"$work/output"
