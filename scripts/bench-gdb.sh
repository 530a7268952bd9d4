#!/bin/bash
# scripts/bench-gdb.sh [STEPS]: single steps a second that a debugger gets over TCP, from out/qkvm and from
# qemu-system-x86_64 in turns: SeaBIOS from its first instruction. RUNS=N repeats (default 3, the best counts); CPUS=N
# is the guest's number of processors.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."

steps=${1:-20000} runs=${RUNS:-3} cpus=${CPUS:-1} port=$((20000 + $$ % 10000))
ours=${QKVM:-out/qkvm} theirs=qemu-system-x86_64
client=artifacts/bin/Qkvm.Control.Tests/release/Qkvm.Control.Tests.dll
[ -e "$client" ] || dotnet build tests/Qkvm.Control.Tests -c Release -v q >/dev/null || fail "cannot build the client"

# measure EMULATOR: the most steps a second of $runs runs.
measure() {
    local best=0 i pid rate
    for ((i = 0; i < runs; i++)); do
        "$1" -smp "$cpus" -display none -monitor none -serial none -S -gdb tcp:127.0.0.1:$port 2>/dev/null &
        pid=$!
        rate=$(dotnet "$client" bench-steps $port "$steps" | cut -d' ' -f1)
        kill $pid
        wait $pid 2>/dev/null
        port=$((port + 1))
        [ "${rate:-0}" -le "$best" ] || best=$rate
    done
    echo "$best"
}

a=$(measure "$ours")
b=$(measure "$theirs")
printf '%-34s %12s %12s %9s\n' "best of $runs" qkvm qemu ratio
printf '%-34s %12s %12s %8.2fx\n' "single steps/s, $cpus processors" "$a" "$b" \
    "$(awk "BEGIN { print $a / ($b > 0 ? $b : 1) }")"
