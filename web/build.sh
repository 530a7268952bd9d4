#!/bin/bash
# web/build.sh OUT_DIR: puts the page of this directory, and the parts of Debian's package novnc that it uses, where the
# executable takes them from.
set -euo pipefail

out=${1:?usage: $0 OUT_DIR}
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"

need dpkg-deb:dpkg
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step "download noVNC"
fetch() { (cd "$work" && apt-get download -q -o APT::Sandbox::User=root novnc) >/dev/null 2>&1; }
fetch || { as_root apt-get update -q >/dev/null && fetch; } || fail "apt-get cannot download Debian's package novnc"
dpkg-deb -x "$work"/novnc_*.deb "$work/debian"

rm -rf "$out"
mkdir -p "$out/novnc"
cp "$here"/*.html "$here"/*.js "$here"/*.css "$here"/*.svg "$out"
cp -r "$work"/debian/usr/share/novnc/{core,vendor} "$out/novnc"
cp "$work/debian/usr/share/doc/novnc/copyright" "$out/novnc/LICENSE.txt"
find "$out" -type f ! -name '*.js' ! -name '*.html' ! -name '*.css' ! -name '*.svg' ! -name '*.txt' -delete
touch "$out/complete"
