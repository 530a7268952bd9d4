#!/bin/bash
# scripts/host-cpus.sh [CPU...]: out/qkvm on other processors than this machine's. QEMU's software CPU is the host: a
# Linux in it runs qkvm, which boots the tiny Linux and in it tests/guests/workloads.c, whose checksums must be what
# they are here. Prints a line for each of QEMU's models (-cpu), and exits with 1 if one fails; what both systems said
# is in artifacts/host-cpus. Slow: an emulator in an emulator takes some minutes a model. LIMIT=SECONDS gives a model up
# (default 1800).
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."

[ $# != 0 ] || set -- qemu64 kvm64 Nehalem Westmere SandyBridge Haswell EPYC max
limit=${LIMIT:-1800} tiny=.cache/tiny out=artifacts/host-cpus

[ -x out/qkvm ] || fail "needs out/qkvm: make builds it"
need qemu-system-x86_64:qemu-system-x86 cpio:cpio gcc:gcc /usr/include/stdlib.h:libc6-dev
if [ ! -e "$tiny/initrd.cpio.gz" ] || [ images/tiny-init -nt "$tiny/initrd.cpio.gz" ]; then
    images/tiny.sh "$tiny" || fail "no tiny Linux guest"
fi
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# archive FOLDER: the folder as an initrd, which Linux unpacks behind the one before it in the same file.
archive() { (cd "$1" && find . -mindepth 1 | cpio --quiet -o -H newc -R 0:0 | gzip -1n); }

mkdir -p "$work/guest" "$work/host/tiny"
gcc -O2 -static -pthread -o "$work/guest/workloads" tests/guests/workloads.c -lm || fail "cannot build the workloads"
"$work/guest/workloads" >"$out/native"

cp out/qkvm "$tiny/vmlinuz" "$work/host"
{ cat "$tiny/initrd.cpio.gz"; archive "$work/guest"; } >"$work/host/guest.cpio.gz"
for library in $(ldd out/qkvm | grep -o '/[^ ]*'); do install -D "$library" "$work/host$library"; done
cat >"$work/host/prove" <<'END'
#!/bin/sh
exec /qkvm -accel tcg -cpu max -smp 2 -m 256M -nodefaults -display none \
        -serial stdio -no-reboot \
    -kernel /vmlinuz -initrd /guest.cpio.gz -append "console=ttyS0 quiet panic=-1 tiny=/workloads"
END
chmod +x "$work/host/prove"
{ cat "$tiny/initrd.cpio.gz"; archive "$work/host"; } >"$work/host.cpio.gz"

total=$(grep -c '^WORKLOAD ' "$out/native") failed=0
printf '%-16s %-6s %9s %8s\n' "host CPU" boots workloads seconds
for cpu; do
    log=$out/$cpu.log start=$SECONDS boots=no
    timeout "$limit" qemu-system-x86_64 -accel tcg -cpu "$cpu" -smp 2 -m 2G -nodefaults -display none \
        -serial stdio -no-reboot \
        -kernel "$tiny/vmlinuz" -initrd "$work/host.cpio.gz" -append "console=ttyS0 quiet panic=-1 tiny=/prove" \
        </dev/null >"$log" 2>&1
    took=$((SECONDS - start))
    tr -d '\r' <"$log" >"$work/said"
    # Both systems say TINY READY.
    [ "$(grep -c 'TINY READY' "$work/said")" = 2 ] && boots=yes
    right=$(grep '^WORKLOAD ' "$work/said" | sort | comm -12 - <(grep '^WORKLOAD ' "$out/native" | sort) | wc -l)
    printf '%-16s %-6s %9s %8s\n' "$cpu" "$boots" "$right/$total" "$took"
    [ "$boots" = yes ] && [ "$right" = "$total" ] || failed=1
done
exit $failed
