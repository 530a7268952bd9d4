#!/bin/bash
# scripts/accept-cloud-init.sh
# A cloud image, made from Debian's packages with cloud-init, is told its name, its key and its work by -cloud-init, on
# both file systems and both machines, and is logged in to by SSH with the key. Ends with "N of N". As root; QKVM= is
# the executable.
set -euo pipefail
cd "$(dirname "$0")/.."
. images/lib.sh

qkvm=${QKVM:-out/qkvm}
port=${PORT:-2299}
image=$cache/cloud.qcow2
need ssh:openssh-client qemu-img:qemu-utils
[ -e "$image" ] || SIZE=3G EXTRA=cloud-init,openssh-server,cloud-guest-utils images/demo.sh "$image"

work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
ssh-keygen -q -t ed25519 -N '' -f "$work/key"
cat >"$work/user-data" <<'END'
#cloud-config
# the image is made without the files that locales are generated from
locale: false
write_files:
- path: /etc/motd
  content: "told by cloud-init\n"
runcmd:
- echo ran >/run/told
END
good=0 all=0

# expect WORDS COMMAND...: one line each, ok or FAILED.
expect() {
    local words=$1
    shift
    all=$((all + 1))
    if "$@" >"$work/last" 2>&1; then good=$((good + 1)); echo "ok      $words"
    else echo "FAILED  $words: $(tail -n 3 "$work/last")"; fi
}

inside() {
    ssh -q -i "$work/key" -p "$port" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o ConnectTimeout=5 debian@127.0.0.1 "$@"
}
reachable() { for _ in $(seq 120); do inside true && return; kill -0 "$pid" || return 1; sleep 2; done; return 1; }
says() { [ "$(inside "$2")" = "$1" ]; }

for machine in pc q35; do
    for seed in iso fat; do
        name=$machine-$seed began=$(date +%s)
        "$qkvm" -M "$machine" -m 1G -display none -serial "file:$work/$name.log" -snapshot \
            -drive "file=$image,if=virtio" -cloud-init \
            "user-data=$work/user-data,hostname=$name,ssh-key=$work/key.pub,seed=$seed" \
            -netdev "user,id=n,hostfwd=tcp:127.0.0.1:$port-:22" -device virtio-net-pci,netdev=n &
        pid=$!
        expect "$name: SSH with the key" reachable
        echo "        after $(($(date +%s) - began)) s"
        expect "$name: its name" says "$name" hostname
        expect "$name: cloud-init is done" inside timeout 240 cloud-init status --wait
        expect "$name: it used the seed" inside 'grep -q DataSourceNoCloud /run/cloud-init/result.json'
        expect "$name: a file was written" says 'told by cloud-init' 'cat /etc/motd'
        expect "$name: a command was run" says ran 'cat /run/told'
        kill "$pid" || true
        wait "$pid" || true
        pid=
    done
done
echo "$good of $all"
[ "$good" = "$all" ]
