#!/bin/bash
# scripts/bench.sh [IMAGE]: times start-up, the tiny Linux guest and, if given, a disk image to its login prompt, under
# out/qkvm and under qemu-system-x86_64 in turns. RUNS=N repeats (default 3, the best counts); SMP=N and MEM=SIZE are
# the guest's; LIMIT=SECONDS gives a boot up (default 300); ACCELS="tcg kvm" are tried. The image is not written to.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."

image=${1:-} runs=${RUNS:-3} smp=${SMP:-2} mem=${MEM:-1G} limit=${LIMIT:-300}
ours=out/qkvm theirs=qemu-system-x86_64

[ -e .cache/tiny/initrd.cpio.gz ] || images/tiny.sh .cache/tiny || fail "no tiny Linux guest"

now() { date +%s%N; }
shown() { if [ -n "$1" ]; then printf '%d.%03d s' $(($1 / 1000)) $(($1 % 1000)); else echo failed; fi; }
ratio() { [ -z "$1" ] || [ -z "$2" ] || awk "BEGIN { printf \"%.2f x\", $2 / ($1 > 0 ? $1 : 1) }"; }

# best COMMAND...: the shortest of $runs runs in milliseconds, or nothing if one fails.
best() {
    local i start took shortest=
    for ((i = 0; i < runs; i++)); do
        start=$(now)
        "$@" >/dev/null 2>&1 </dev/null || return
        took=$((($(now) - start) / 1000000))
        [ -n "$shortest" ] && [ "$took" -ge "$shortest" ] || shortest=$took
    done
    echo "$shortest"
}

# until_printed TEXT COMMAND...: run the command until it prints the text; fails where it never does.
until_printed() {
    local text=$1 output pid status
    shift
    output=$(mktemp -u)
    mkfifo "$output"
    timeout "$limit" "$@" >"$output" 2>&1 </dev/null &
    pid=$!
    grep -qm1 "$text" "$output"
    status=$?
    kill "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    rm "$output"
    return $status
}

# compare WHAT COMMAND...: the command has EMULATOR where the emulator's path goes.
compare() {
    local what=$1 a b
    shift
    a=$(best "${@/EMULATOR/$ours}")
    b=$(best "${@/EMULATOR/$theirs}")
    printf '%-34s %12s %12s %9s\n' "$what" "$(shown "$a")" "$(shown "$b")" "$(ratio "$a" "$b")"
}

usable() { [ "$1" = tcg ] || { [ -r /dev/kvm ] && [ -w /dev/kvm ]; }; }

printf '%-34s %12s %12s %9s\n' "best of $runs" qkvm qemu "speed-up"
compare "start-up (-version)" EMULATOR -version
for accel in ${ACCELS:-tcg kvm}; do
    usable "$accel" || { echo "$accel: /dev/kvm cannot be opened"; continue; }
    cpu=max
    [ "$accel" = tcg ] || cpu=host
    guest=(-accel "$accel" -cpu "$cpu" -smp "$smp" -m "$mem" -display none -serial stdio -monitor none -no-reboot)
    compare "tiny Linux to userland, $accel" until_printed "TINY READY" EMULATOR "${guest[@]}" -nodefaults \
        -kernel .cache/tiny/vmlinuz -initrd .cache/tiny/initrd.cpio.gz \
        -append "console=ttyS0 quiet panic=-1 tiny=poweroff"
    [ -z "$image" ] || compare "$(basename "$image") to its login, $accel" \
        until_printed "login:" EMULATOR "${guest[@]}" \
        -drive "file=$image,if=virtio" -snapshot
done
