#!/bin/bash
# scripts/run.sh: boots the demo disk, which is made first if there is none, on this terminal. What is written to it
# stays.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"
cd "$here/.."

disk=.cache/demo.qcow2
if [ ! -e "$disk" ]; then
    step "make the demo disk, once: Debian 12 from its packages; this takes some minutes"
    as_root images/demo.sh "$disk.new"
    [ -w "$disk.new" ] || as_root chown "$(id -u):$(id -g)" "$disk.new"
    mv "$disk.new" "$disk"
fi

command=(out/qkvm "$disk" -smp 2 -m 1G -nographic)
cat >&2 <<END

Starting:   ${command[*]}
            Debian 12 on two emulated processors with 1 GiB of memory. The screen is this terminal.
Log in as:  root (no password)
To leave:   poweroff in the guest; or ctrl-a x, which is like pulling the plug. ctrl-a c is the monitor, ctrl-a h helps.
Start anew: rm $disk

END
exec "${command[@]}"
