#!/bin/bash
# scripts/package.sh: out/qkvm as a Debian package and as an archive for any other x86-64 Linux, in out/, with their
# SHA-256 sums. The same sources make the same files: SOURCE_DATE_EPOCH is the last commit's time unless it is given.
set -euo pipefail
cd "$(dirname "$0")/.."
. images/lib.sh

need dpkg-deb:dpkg git:git
version=$(sed -n 's/.*<Version>\(.*\)<\/Version>.*/\1/p' Directory.Build.props)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
deb=out/qkvm_${version}_amd64.deb archive=out/qkvm-$version-linux-x64.tar.gz
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
umask 022

DESTDIR=$root/archive scripts/install.sh "/qkvm-$version" >/dev/null
tar -C "$root/archive" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -cf - \
    "qkvm-$version" | gzip -9n >"$archive"

DESTDIR=$root/deb scripts/install.sh /usr >/dev/null
gzip -9n "$root"/deb/usr/share/man/man1/*.1
mv "$root/deb/usr/share/doc/qkvm/LICENSE" "$root/deb/usr/share/doc/qkvm/copyright"
install -D -m 644 /dev/stdin "$root/deb/usr/lib/udev/rules.d/60-qkvm.rules" <<'END'
# Members of the group kvm may run guests on the processor itself, and have them speak by vsock and vhost.
KERNEL=="kvm", GROUP="kvm", MODE="0660", OPTIONS+="static_node=kvm"
KERNEL=="vhost-net|vhost-vsock", GROUP="kvm", MODE="0660"
END
mkdir -p "$root/deb/DEBIAN"
cat >"$root/deb/DEBIAN/control" <<END
Package: qkvm
Version: $version
Architecture: amd64
Maintainer: The qkvm developers <qkvm@localhost>
Section: otherosfs
Priority: optional
Depends: libc6 (>= 2.17)
Recommends: ipxe-qemu
Suggests: ovmf, swtpm, virtiofsd, passt
Installed-Size: $(du -sk "$root/deb/usr" | cut -f1)
Description: PCs as processes, with QEMU's command line
 qkvm runs x86-64 guests on its software CPU or on KVM, and takes the options, the
 monitor's commands and the machine protocol of qemu-system-x86_64; qkvm img works on
 disk images as qemu-img does.
END
install -m 755 /dev/stdin "$root/deb/DEBIAN/postinst" <<'END'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    getent group kvm >/dev/null || groupadd --system kvm
    # QEMU's own programs are files of its packages, which alternatives would have to take over: only where there are
    # none do their names lead here.
    for pair in qemu-system-x86_64:qkvm qemu-img:qkvm-img qemu-nbd:qkvm-nbd; do
        name=${pair%%:*}
        if [ ! -e "/usr/bin/$name" ] || [ -L "/usr/bin/$name" ]; then
            update-alternatives --install "/usr/bin/$name" "$name" "/usr/bin/${pair#*:}" 10
        fi
    done
fi
END
install -m 755 /dev/stdin "$root/deb/DEBIAN/prerm" <<'END'
#!/bin/sh
set -e
if [ "$1" = remove ]; then
    for pair in qemu-system-x86_64:qkvm qemu-img:qkvm-img qemu-nbd:qkvm-nbd; do
        update-alternatives --remove "${pair%%:*}" "/usr/bin/${pair#*:}"
    done
fi
END
find "$root/deb" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Zxz --build "$root/deb" "$deb" >/dev/null
(cd out && sha256sum "${deb#out/}" "${archive#out/}" | tee SHA256SUMS)
