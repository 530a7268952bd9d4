#!/bin/sh
# Public CPU test suites on the emulated processor. Usage: scripts/cpu-suites.sh SUITE FOLDER [QKVM] [options of
# tests/suites/*.py]
#   test386  a checkout of barotto/test386.asm: POST codes up to FF, and its arithmetic against its own reference
#   fex      a checkout of FEX-Emu/FEX: unittests/ASM and unittests/32Bit_ASM, expected registers in each file
#   kvmunit  a built checkout of kvm-unit-tests: processor events, tables, paging and MSRs in ring 0
#   v86      a checkout of copy/v86: tests/nasm, each program also run on this machine's processor and compared
# Needs nasm and python3; v86 also node and ld. Prints what failed, why others were skipped, and "N passed, N failed, N
# skipped".
set -eu
suites=$(dirname "$0")/../tests/suites
[ $# -ge 2 ] || { sed -n 's/^# \{0,1\}//p' "$0" >&2; exit 1; }
suite=$1 folder=$2
shift 2
[ -f "$suites/$suite.py" ] || { echo "cpu-suites: '$suite' is none of test386, fex, kvmunit, v86" >&2; exit 1; }
[ -d "$folder" ] || { echo "cpu-suites: $folder is not a folder: give the suite's checkout" >&2; exit 1; }
if [ "$suite" = v86 ] && [ ! -d "$folder/tests/nasm/build" ]; then
    (cd "$folder/tests/nasm" && node create_tests.js >/dev/null)
fi
exec python3 "$suites/$suite.py" "$folder" "$@"
