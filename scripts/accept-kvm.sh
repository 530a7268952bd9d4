#!/bin/bash
# scripts/accept-kvm.sh [MACHINE:IRQCHIP:GUEST...]
# Whole Linux guests under -enable-kvm: two processors, a virtio disk and card, a disk, a card, a processor and a DIMM
# plugged and unplugged, a pause, a reset, power off; for each machine (pc, q35), kernel-irqchip (on, split, off) and
# guest (tiny, cards: images/tiny.sh's small and generic kernels). Where /dev/kvm cannot run a Linux, which
# NESTED=1 says, in the machine of scripts/nested-kvm.sh, where each case takes minutes. QKVM=out/qkvm, ACCEL=kvm;
# PATIENCE=seconds (600) for each answer. The last line: N passed, N failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. images/lib.sh
[ "${NESTED:-}" != 1 ] || NESTED=0 exec scripts/nested-kvm.sh "$PWD/scripts/accept-kvm.sh" "$@"

qkvm=${QKVM:-out/qkvm} patience=${PATIENCE:-600} accel=${ACCEL:-kvm} model=host
[ "$accel" = kvm ] || model=max
[ $# -gt 0 ] || set -- {pc,q35}:{on,split,off}:tiny pc:on:cards q35:split:cards
need socat:socat
work=$(mktemp -d)
trap '[ -z "${guest:-}" ] || kill "$guest" 2>/dev/null; rm -rf "$work"' EXIT
passed=0 failed=0

# check WHAT EXPECTED GOT: EXPECTED is an extended regular expression.
check() {
    if [[ $3 =~ $2 ]]; then
        passed=$((passed + 1)); echo "ok    $case: $1"
    else
        failed=$((failed + 1)); echo "FAIL  $case: $1: expected $2, got: ${3:0:400}"
    fi
}

# eventually COMMAND...: until it succeeds; false when patience or the guest has ended.
eventually() {
    local end=$((SECONDS + patience))
    until "$@" 2>/dev/null; do
        kill -0 "$guest" 2>/dev/null && [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}

said() { [ "$(grep -ac "$1" "$work/console")" -ge "${2:-1}" ]; }

# run COMMAND: in the guest's shell; what it prints.
run() {
    local turn=$(($(grep -ac '^end-' "$work/console") + 1)) # not a variable of the script: this runs in subshells
    echo "echo begin-\$((turn = $turn)); $1; echo end-\$((turn))" >&3
    eventually said "^end-$turn" || { echo "no answer"; return; }
    tr -d '\r' <"$work/console" | sed -n "/^begin-$turn\$/,/^end-$turn/p" | sed '1d;$d'
}

# until_guest COMMAND EXPECTED: asks until the guest's answer fits; the last answer.
until_guest() {
    local end=$((SECONDS + patience)) answer
    while answer=$(run "$1"); [[ ! $answer =~ $2 ]] && [ $SECONDS -lt $end ] && kill -0 "$guest" 2>/dev/null; do
        sleep 1
    done
    echo "$answer"
}

monitor() { # the answer without echo and prompt
    echo "$1" | socat -t 5 - "unix:$work/monitor" | tr -d '\r' | sed '1d;s/^(qemu) .*//'
}

start() { # MACHINE IRQCHIP GUEST
    local bus=()
    [ "$1" = pc ] || bus=(-device pcie-root-port,id=p1,chassis=1 -device pcie-root-port,id=p2,chassis=2)
    rm -f "$work"/{in,monitor}
    mkfifo "$work/in"
    head -c 4M /dev/urandom >"$work/a"
    truncate -s 8M "$work/b"
    "$qkvm" -accel "$accel" -machine "$1,kernel-irqchip=$2" -cpu "$model" -smp 2,maxcpus=3,sockets=3 \
        -m 256,slots=2,maxmem=1G -nodefaults -display none -no-shutdown -action shutdown=poweroff \
        -kernel ".cache/$3/vmlinuz" -initrd ".cache/$3/initrd.cpio.gz" -append "console=ttyS0 quiet panic=-1" \
        -serial stdio -monitor "unix:$work/monitor,server=on,wait=off" "${bus[@]}" \
        -drive "file=$work/a,format=raw,if=none,id=a" -device virtio-blk-pci,drive=a \
        -drive "file=$work/b,format=raw,if=none,id=b" -netdev user,id=n -netdev user,id=n2 \
        -device virtio-net-pci,netdev=n <"$work/in" >"$work/console" 2>"$work/errors" &
    guest=$!
    exec 3>"$work/in"
}

hot_plug() { # MACHINE
    local first='' second=''
    [ "$1" = pc ] || first=,bus=p1 second=,bus=p2
    check "device_add of a disk" '^$' "$(monitor "device_add virtio-blk-pci,drive=b,id=hot$first")"
    check "it is there" '^16384' "$(until_guest 'cat /sys/block/vdb/size' '^16384')"
    check "and holds what is written" 'same' "$(run 'echo same | dd of=/dev/vdb conv=fsync 2>/dev/null
        echo 3 >/proc/sys/vm/drop_caches; head -c 4 /dev/vdb; echo')"
    check "device_del of the disk" '^$' "$(monitor "device_del hot")"
    check "it is gone" 'gone' "$(until_guest '[ -e /sys/block/vdb ] || echo gone' 'gone')"

    check "device_add of a card" '^$' "$(monitor "device_add virtio-net-pci,netdev=n2,id=card$second")"
    check "it is there" 'eth1' "$(until_guest 'ls /sys/class/net' 'eth1')"
    check "device_del of the card" '^$' "$(monitor "device_del card")"
    check "it is gone" 'gone' "$(until_guest '[ -e /sys/class/net/eth1 ] || echo gone' 'gone')"

    check "device_add of a processor" '^$' \
        "$(monitor "device_add $model-x86_64-cpu,id=third,socket-id=2,core-id=0,thread-id=0")"
    check "it runs" '^3' "$(until_guest 'echo 1 >/sys/devices/system/cpu/cpu2/online; nproc' '^3')"
    check "device_del of the processor" '^$' "$(monitor "device_del third")"
    check "it is gone" '^2' "$(until_guest nproc '^2')"

    before=$(run "sed -n 's/^MemTotal: *//p' /proc/meminfo")
    run 'echo online_movable >/sys/devices/system/memory/auto_online_blocks' >"$work/ignored"
    monitor "object_add memory-backend-ram,id=m,size=128M" >"$work/ignored"
    check "device_add of a DIMM" '^$' "$(monitor "device_add pc-dimm,id=dimm,memdev=m")"
    check "its memory is there" 'more' "$(until_guest "[ \$(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo) \
-gt $((${before%% *} + 100000)) ] && echo more" more)"
    check "device_del of the DIMM" '^$' "$(monitor "device_del dimm")"
    check "its memory is gone" 'back' "$(until_guest "[ \$(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo) \
-lt $((${before%% *} + 50000)) ] && echo back" back)"
}

for case; do
    IFS=: read -r machine irqchip kind <<<"$case"
    [ -e ".cache/$kind/vmlinuz" ] || fail "no guest .cache/$kind: images/tiny.sh makes it"
    start "$machine" "$irqchip" "$kind"
    eventually said 'TINY READY'
    check "boots with two processors" 'cpus=2' "$(grep -a 'TINY READY' "$work/console"; head -40 "$work/errors")"
    if ! said 'TINY READY'; then
        tail -n 5 "$work/console"
        kill "$guest"; wait "$guest"; exec 3>&-
        continue
    fi
    check "info kvm" 'enabled' "$(monitor 'info kvm')"
    check "its disk reads as the file" "$(md5sum <"$work/a" | cut -c1-32)" "$(run 'md5sum </dev/vda')"
    check "its card reaches the gateway" '1 packets received' "$(run 'ifconfig eth0 10.0.2.15 up
        ping -c 1 10.0.2.2')"
    check "interrupts reach both processors" 'LOC: +[1-9][0-9]* +[1-9]' "$(run 'grep LOC: /proc/interrupts')"
    hot_plug "$machine"
    monitor stop >"$work/ignored"
    check "stop" 'paused' "$(monitor 'info status')"
    monitor cont >"$work/ignored"
    check "cont" 'alive' "$(run 'echo alive')"
    check "info stats" 'userspace-exits-io' "$(monitor 'info stats vcpu')"
    monitor system_reset >"$work/ignored"
    eventually said 'TINY READY' 2
    check "system_reset" '^2$' "$(grep -ac 'TINY READY' "$work/console")"
    echo 'poweroff -f' >&3
    eventually eval '! kill -0 $guest'
    wait "$guest"
    check "powers off" '^0$' "$?"
    check "and says nothing else" '^$' "$(<"$work/errors")"
    exec 3>&-
    guest=
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
