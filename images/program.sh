#!/bin/bash
# images/program.sh OUTPUT_DIR NAME [PACKAGE:FILE...]
# Makes OUTPUT_DIR/initrd.cpio, a second part for the initrd of images/tiny.sh: the program of Debian 12's package NAME
# with its libraries, and /NAME-init from this directory, which runs it and powers off. FILE of another package comes
# along, a program at the same place. Nothing is installed. Needs no root.
set -euo pipefail

usage="usage: $0 OUTPUT_DIR NAME [PACKAGE:FILE...]"
out=${1:?$usage} name=${2:?$usage}
shift 2
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

need mmdebstrap:mmdebstrap cpio:cpio

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
packages=$name
for file; do packages+=,${file%%:*}; done
step "download $packages"
mmdebstrap --quiet --variant=extract --architectures=amd64 --skip=check/qemu --aptopt='APT::Sandbox::User "root"' \
    --include="$packages" "$suite" "$work/debs" 2>/dev/null

step "collect the libraries"
debs=$work/debs root=$work/root libraries=/usr/lib/x86_64-linux-gnu
loader=$(readlink -f "$debs/lib64/ld-linux-x86-64.so.2")
mkdir -p "$root"/{bin,lib64,lib}

# take FROM TO: the program and what it is linked with.
take() {
    "$loader" --library-path "$debs/lib/x86_64-linux-gnu:$debs$libraries:$debs$libraries/ceph" --list "$debs$1" |
        sed -n 's/.* => \(\/.*\) (.*/\1/p' | while read -r file; do cp -L "$file" "$root/lib/"; done
    install -D "$debs$1" "$root$2"
}

take "/usr/bin/$name" "/bin/$name"
for file; do take "${file#*:}" "${file#*:}"; done
cp "$loader" "$root/lib64/ld-linux-x86-64.so.2"
cp "$here/$name-init" "$root/$name-init"
chmod 755 "$root/$name-init"

mkdir -p "$out"
(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$out/initrd.cpio"
step "done: $(du -h "$out/initrd.cpio" | cut -f1)"
