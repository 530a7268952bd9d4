#!/bin/bash
# scripts/install.sh [PREFIX]: puts out/qkvm below PREFIX (/usr/local) with its links, manual pages, completions and
# licences. DESTDIR= stands in front of all places, for packages; QKVM= is the executable.
set -euo pipefail
cd "$(dirname "$0")/.."

qkvm=${QKVM:-out/qkvm}
target=${DESTDIR:-}${1:-/usr/local}
share=$target/share

install -D "$qkvm" "$target/bin/qkvm"
for tool in img nbd; do ln -sf qkvm "$target/bin/qkvm-$tool"; done

# made FILE WORD...: what the program prints, as a file.
made() {
    mkdir -p "$(dirname "$share/$1")"
    "$qkvm" "${@:2}" >"$share/$1"
}
made man/man1/qkvm.1 man
made man/man1/qkvm-img.1 man img
made bash-completion/completions/qkvm completion bash
made zsh/site-functions/_qkvm completion zsh
made fish/vendor_completions.d/qkvm.fish completion fish
install -D -m 644 -t "$share/doc/qkvm" README.md LICENSE NOTICE docs/*.md
install -D -m 644 -t "$share/doc/qkvm/monitoring" docs/monitoring/*
echo "installed below $target"
