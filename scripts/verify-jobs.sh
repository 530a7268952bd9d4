#!/bin/bash
# scripts/verify-jobs.sh [ROUNDS]: a Debian guest's fio writes, reads and trims a virtio disk at random places and
# judges what it reads, while snapshots of the disk are taken and committed, streamed and mirrored into its place, one
# job after the other until fio has done; then QEMU's tools judge the image: that it is sound, and that it holds what
# the guest has seen. ROUNDS (default 3), SEED (now's), QKVM.
set -uo pipefail
cd "$(dirname "$0")/.."
. images/lib.sh
need qemu-img:qemu-utils socat:socat

qkvm=${QKVM:-out/qkvm} rounds=${1:-3} seed=${SEED:-$RANDOM} size=64M
[ -e .cache/tiny/vmlinuz ] || images/tiny.sh .cache/tiny
[ -e .cache/fio/initrd.cpio ] || images/program.sh .cache/fio fio || fail "no fio"
work=$(mktemp -d)
guest=
trap 'kill $guest 2>/dev/null; rm -rf "$work"' EXIT
cat .cache/fio/initrd.cpio .cache/tiny/initrd.cpio.gz >"$work/initrd" # an uncompressed part comes first
echo "seed $seed"

# ask COMMAND [ARGUMENTS]: false where the answer is an error, or nobody answers.
ask() {
    echo "{\"execute\":\"$1\",\"arguments\":{${2:-}}}" >&"${qmp[1]}" || return
    while read -r -t 60 line <&"${qmp[0]}"; do
        echo "$line" >>"$work/told"
        case $line in
        '{"return"'* | '{"return":'*) return 0 ;;
        '{"error"'*) echo "$1: $line"; return 1 ;;
        esac
    done 2>/dev/null
    return 1
}

# until_told TEXT: an event with that text, now or among what came with the last answers.
until_told() {
    while ! grep -q "$1" "$work/told"; do
        read -r -t 60 line <&"${qmp[0]}" || return
        echo "$line" >>"$work/told"
    done 2>/dev/null
}

# run_job COMMAND ARGUMENTS: to its end; one that follows the guest is completed.
run_job() {
    : >"$work/told"
    ask "$1" "\"job-id\":\"j\",\"device\":\"$top\"$2" || return
    [ "$1" = block-stream ] || { until_told BLOCK_JOB_READY && ask job-complete '"id":"j"'; } || return
    until_told BLOCK_JOB_COMPLETED || return
    ! grep BLOCK_JOB_COMPLETED "$work/told" | grep '"error"'
}

# snapshot NAME: the guest goes on in an image over the one that it had.
snapshot() {
    ask blockdev-snapshot-sync "\"node-name\":\"$top\",\"snapshot-file\":\"$work/$1\",\"snapshot-node-name\":\"$1\"" &&
        top=$1
}

# one_after_the_other N: the disk is in another image than before when it ends.
one_after_the_other() {
    local base=$top
    snapshot "a$1" && snapshot "b$1" && run_job block-commit '' && top=$base && jobs=$((jobs + 1)) || return
    snapshot "c$1" && snapshot "d$1" && run_job block-stream '' && jobs=$((jobs + 1)) || return
    qemu-img create -q -f qcow2 "$work/e$1" "$size"
    ask blockdev-add "\"driver\":\"qcow2\",\"node-name\":\"e$1\",\"discard\":\"unmap\",
        \"file\":{\"driver\":\"file\",\"filename\":\"$work/e$1\"}" &&
        run_job blockdev-mirror ",\"target\":\"e$1\",\"sync\":\"full\"" && top=e$1 && jobs=$((jobs + 1))
}

failed=0
for ((round = 0; round < rounds; round++)); do
    rm -f "$work"/[a-e]* "$work/qmp" "$work/log"
    top=e jobs=0 verdict=ok
    qemu-img create -q -f qcow2 "$work/e" "$size"
    timeout 300 "$qkvm" -accel tcg -cpu max -m 512M -nodefaults -display none -serial "file:$work/log" -no-reboot \
        -qmp "unix:$work/qmp,server=on,wait=off" -kernel .cache/tiny/vmlinuz -initrd "$work/initrd" \
        -append "console=ttyS0 quiet panic=-1 rdinit=/fio-init fio.verify=$((seed + round))" \
        -blockdev "driver=qcow2,node-name=e,discard=unmap,file.driver=file,file.filename=$work/e" \
        -device virtio-blk-pci,drive=e 2>"$work/errors" &
    guest=$!
    until [ -S "$work/qmp" ]; do sleep 0.1; done
    coproc qmp { exec socat - "unix:$work/qmp"; }
    : >"$work/told"
    ask qmp_capabilities || verdict='nobody answers'
    for ((n = 0; ; n++)); do
        grep -aq ^VERIFY "$work/log" && break
        one_after_the_other "$n" || { grep -aq ^VERIFY "$work/log" || verdict='a job failed'; break; }
    done
    wait "$guest" "$qmp_PID" 2>/dev/null
    hash=$(tr -d '\r' <"$work/log" | sed -n 's/^HASH \([0-9a-f]*\).*/\1/p')
    grep -aq '^VERIFY ok' "$work/log" || { verdict='fio fails'; tail -n 30 "$work/log" "$work/errors"; }
    qemu-img check -q "$work/$top" || verdict='not sound'
    qemu-img convert -O raw "$work/$top" "$work/raw"
    [ "$(sha256sum <"$work/raw" | cut -d' ' -f1)" = "$hash" ] || verdict='QEMU reads another disk'
    echo "round $round: $verdict, $jobs jobs"
    [ "$verdict" = ok ] || failed=1
done
exit $failed
