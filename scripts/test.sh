#!/bin/bash
# scripts/test.sh [PROJECT...]: builds and runs the tests, all or those of the named projects (Qkvm.Hw.Tests).
# Ends with "N passed, N failed, N skipped"; exit status 1 if any failed.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."

# Seconds, against hangs; they say nothing about speed. In these no test of a project begins or ends: what runs then is
# named and ended. And in these the whole project is not done.
quiet=300 limit=900
results=artifacts/test-results
mkdir -p "$results"
rm -rf "${results:?}"/*

# logged NAME COMMAND...: show the output only if it fails. A file and no pipe: the build leaves servers behind that
# would keep a pipe open.
logged() {
    local log=$results/$1.log
    shift
    "$@" >"$log" 2>&1 </dev/null || { cat "$log"; return 1; }
}

step "make the bare-metal guests"
tests/guests/build.sh .cache/guests || fail "cannot assemble tests/guests"
if [ ! -e .cache/tiny/initrd.cpio.gz ] || [ images/tiny-init -nt .cache/tiny/initrd.cpio.gz ]; then
    images/tiny.sh .cache/tiny || step "no tiny Linux guest: the tests that boot it will be skipped"
fi

if [ ! -e .cache/cards/initrd ] || [ -n "$(find images/tiny* -newer .cache/cards/initrd)" ]; then
    images/tiny.sh .cache/cards generic && images/program.sh .cache/network iperf3 dropbear-bin:/usr/sbin/dropbear \
        openssh-sftp-server:/usr/lib/sftp-server ethtool:/sbin/ethtool &&
        cat .cache/network/initrd.cpio .cache/cards/initrd.cpio.gz >.cache/cards/initrd ||
        step "no guest with the drivers of all cards: the tests of networks will be skipped"
fi

# After them: its disks hold both kernels.
if [ ! -e .cache/foreign/grub.iso ] || [ tests/guests/foreign.sh -nt .cache/foreign/grub.iso ]; then
    tests/guests/foreign.sh .cache/foreign || step "no foreign systems: the tests that boot them will be skipped"
fi

if [ $# = 0 ]; then
    # Long ones first, so that none is left to run alone.
    set -- Qkvm.Tests $(cd tests && ls -d ./*.Tests | sed 's|^\./||; /^Qkvm\.Tests$/d')
    step "build the solution"
    logged build dotnet build Qemu.Net.sln -c Release --nologo -v q -nodeReuse:false ||
            fail "the build failed"
else
    for project; do
        step "build $project"
        logged "build-$project" dotnet build "tests/$project" -c Release --nologo -v q -nodeReuse:false ||
            fail "the build failed"
    done
fi

# unended PROJECT: the tests that had begun, and not ended, when the project was.
unended() {
    sed -nE 's/.* DisplayName="([^"]*)".* Completed="False".*/\1/p' "$results/$1"/*/Sequence_*.xml 2>/dev/null
}

# The software CPU's tests run once more as on a processor of each level of x86-64: PROJECT@MASK. The tables of all
# models and hints say what guests see of what this processor has; they hold for no other.
runs=() passed=0 failed=0 skipped=0
for project; do
    runs+=("$project")
    [ "$project" = Qkvm.Accel.Tests ] || continue
    for mask in v1 v2 v2,+aes v3 v4; do
        why=$(QKVM_HOST_FEATURES=$mask "${QKVM:-out/qkvm}" --version 2>&1) && runs+=("$project@$mask") && continue
        step "$project@$mask: skipped: $why"
        skipped=$((skipped + 1))
    done
done

# run PROJECT[@MASK]: the log and, when it has ended, the exit status stand in $results.
run() {
    local project=$1 mask=${1#*@} assembly=${1%@*} only=(--filter "$notMasked")
    [ "$mask" != "$project" ] || { mask= only=(); }
    rm -rf "${results:?}/$project"
    QKVM_HOST_FEATURES=$mask timeout "$limit" dotnet test "artifacts/bin/$assembly/release/$assembly.dll" --nologo \
        "${only[@]}" --results-directory "$results/$project" \
        --blame-hang-timeout "${quiet}s" --blame-hang-dump-type none >"$results/$project.log" 2>&1 </dev/null
    echo $? >"$results/$project.status"
    find "$results/$project" -name '*.dmp' -delete 2>/dev/null      # which come nevertheless
}

# counts_of LOG: of "Passed!  - Failed:     0, Passed:    17, Skipped:     0, Total:    17, Duration: …" the numbers.
counts_of() {
    sed -nE 's/.*- Failed: *([0-9]+), Passed: *([0-9]+), Skipped: *([0-9]+),.*/\1 \2 \3/p' "$1" | tail -n 1
}

# report PROJECT[@MASK]: what has become of it, once it has ended.
report() {
    local project=$1 log=$results/$1.log status counts f=0 p s
    status=$(cat "$results/$project.status")
    step "$project"
    grep -vE '^$|^Test run for|^VSTest version|^Starting test exec|^A total of|^Attachments:|Sequence_|hangdump' "$log"
    counts=$(counts_of "$log")
    if [ -n "$counts" ]; then
        read -r f p s <<<"$counts"
        failed=$((failed + f)) passed=$((passed + p)) skipped=$((skipped + s))
    fi
    if [ "$status" != 0 ] && [ "$f" = 0 ] || [ -z "$counts" ]; then
        step "$project ended with status $status$([ "$status" = 124 ] && echo ": not done after $limit seconds")"
        unended "$project" | while read -r test; do step "did not end: $test"; done
        failed=$((failed + 1))
    fi
}

# Two at a time: no project keeps two processors busy all the time.
notMasked='FullyQualifiedName!~ModelTableTests&FullyQualifiedName!~HintTests'
reported=0
report_ended() {
    while [ "$reported" -lt "${#runs[@]}" ] && [ -e "$results/${runs[$reported]}.status" ]; do
        report "${runs[$reported]}"
        reported=$((reported + 1))
    done
}
for project in "${runs[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do
        wait -n
        report_ended
    done
    run "$project" &
done
wait
report_ended
# again PROJECT: the tests share this machine, and what is busy with something else fails one now and then. The few that
# failed run once more, alone, or the whole project where one did not end: a fault fails again; what passes now is named
# as unsteady and counts as passed.
again() {
    local project=$1 names only=() f=0 p=0 s=0 failures=1 passes=0 skips=0
    [ "$(cat "$results/$project.status")" != 0 ] || return
    names=$(sed -nE "s/^  Failed ($project\.[A-Za-z0-9_.]+).*/\1/p" "$results/$project.log")
    if [ -n "$names" ]; then
        failures=$(wc -l <<<"$names")
        [ "$failures" -le 3 ] || return
        only=(--filter "$(sort -u <<<"$names" | sed 's/^/FullyQualifiedName=/' | paste -sd '|')")
    else
        names=$(unended "$project")
        read -r f p s <<<"$(counts_of "$results/$project.log")"
        passes=$((${p:-0})) skips=$((${s:-0}))
    fi
    names=$(paste -sd ' ' <<<"$names")
    step "$project: once more, alone: $names"
    timeout "$limit" dotnet test "artifacts/bin/$project/release/$project.dll" --nologo "${only[@]}" \
        --results-directory "$results/$project.again" --blame-hang-timeout "${quiet}s" --blame-hang-dump-type none \
        >"$results/$project.again.log" 2>&1 </dev/null || { cat "$results/$project.again.log"; return; }
    step "$project: passed when run alone, unsteady: $names"
    failed=$((failed - failures))
    if [ "${#only[@]}" != 0 ]; then
        passed=$((passed + failures))
    else
        read -r f p s <<<"$(counts_of "$results/$project.again.log")"
        passed=$((passed + p - passes)) skipped=$((skipped + s - skips))
    fi
}
for project in "${runs[@]}"; do
    [ "${project%@*}" != "$project" ] || again "$project"
done
# Once more at the end, which is what those see who are shown a part: the failed tests and their reasons.
[ "$failed" = 0 ] || for project in "${runs[@]}"; do
    awk -v name="$project" '/^  Failed / { print "test.sh: " name ":" $0; lines = 12; next }
        /^  Stack Trace:/ { lines = 0 } lines-- > 0' "$results/$project.log"
done
echo "$passed passed, $failed failed, $skipped skipped" | tee "$results/summary"
[ "$failed" = 0 ]
