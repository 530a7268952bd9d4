#!/bin/bash
# scripts/bench-display.sh [SECONDS]: out/qkvm beside qemu-system-x86_64 as VNC servers at 1024x768, with a viewer that
# decodes nothing: milliseconds from a change of the whole screen to its last rectangle (the median of 15), updates a
# second of text that scrolls 100 times a second, what that costs of one processor beyond the guest's own, and what an
# idle screen costs. The guest is tests/guests/display.asm, on the software CPU, or ACCEL=kvm.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."
need nasm:nasm
seconds=${1:-4} # the viewer waits twice that before it speaks, and the server ten seconds for it to speak
accel=${ACCEL:-tcg}

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
nasm -f bin -o "$work/display.bin" tests/guests/display.asm
[ -n "${BUILT:-}" ] || dotnet build tests/Qkvm.Backends.Tests -c Release --nologo -v q -nodeReuse:false >/dev/null

# measure PROGRAM DISPLAY NAME ENCODINGS
measure() {
    rm -f "$work/serial"
    "$1" -accel "$accel" -m 128 -nodefaults -vga std -display none -vnc "127.0.0.1:$2" -kernel "$work/display.bin" \
        -chardev "socket,id=line,path=$work/serial,server=on,wait=off" -serial chardev:line >/dev/null 2>&1 &
    server=$!
    for _ in $(seq 100); do [ -S "$work/serial" ] && break; sleep 0.1; done
    sleep 2
    printf '%-24s %-6s ' "$(basename "$1")" "$3"
    dotnet artifacts/bin/Qkvm.Backends.Tests/release/Qkvm.Backends.Tests.dll bench-display 127.0.0.1 \
        $((5900 + $2)) "$work/serial" "$server" "$seconds" "$4" || true
    kill "$server" && wait "$server" 2>/dev/null || true
    server=
}

echo "accelerator $accel, $seconds s each"
for one in 'tight:7,1,16,5,0' 'zrle:16,1,5,0' 'raw:0'; do
    for program in out/qkvm qemu-system-x86_64; do
        command -v "$program" >/dev/null || { step "no $program"; continue; }
        measure "$program" "${DISPLAY_NUMBER:-87}" "${one%%:*}" "${one#*:}"
    done
done
