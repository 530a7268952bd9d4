#!/bin/bash
# scripts/nested-qemu.sh OUTPUT: makes a qemu-system-x86_64 for scripts/nested-kvm.sh from Debian's source package. Its
# software CPU does as AMD's manual, vol. 2, chapter 15, has it in three places: it loads DR7 with effect at VMRUN and
# at #VMEXIT, and tells of an INT3 by the intercept of #BP. KVM's breakpoints need that. As root; takes 10 minutes.
set -euo pipefail

out=$(realpath -m "${1:?usage: $0 OUTPUT}")
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../images/lib.sh"

need dpkg-source:dpkg-dev ninja:ninja-build meson:meson gcc:gcc pkg-config:pkgconf bison:bison flex:flex \
    /usr/include/glib-2.0/glib.h:libglib2.0-dev /usr/include/libfdt.h:libfdt-dev \
    /usr/include/cap-ng.h:libcap-ng-dev /usr/include/attr/attributes.h:libattr1-dev \
    /usr/include/pixman-1/pixman.h:libpixman-1-dev

source=$cache/nested-qemu
if [ ! -e "$source/configure" ]; then
    step "download QEMU's source"
    mkdir -p "$cache/nested-qemu.debs/lists"
    sources=$cache/nested-qemu.debs/debian.sources
    printf 'Types: deb-src\nURIs: http://deb.debian.org/debian\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
        "$suite" /usr/share/keyrings/debian-archive-keyring.gpg >"$sources"
    apt=(-o "Dir::Etc::SourceList=$sources" -o Dir::Etc::SourceParts=-
        -o "Dir::State::Lists=$cache/nested-qemu.debs/lists" -o APT::Sandbox::User=root)
    apt-get "${apt[@]}" update -q >/dev/null
    (cd "$cache/nested-qemu.debs" && apt-get "${apt[@]}" source -q --download-only qemu >/dev/null)
    dpkg-source -x "$cache"/nested-qemu.debs/qemu_*.dsc "$source.new" >/dev/null
    step "change it"
    # DR7's assignments: the first is VMRUN's, the second that of the way back.
    sed -i '/^    env->dr\[7\] = x86_ldq_phys(cs,$/ { N; s/env->dr\[7\] = \(.*\);/cpu_x86_update_dr7(env, \1);/ }' \
        "$source.new/target/i386/tcg/sysemu/svm_helper.c"
    sed -i 's/(env, SVM_EXIT_SWINT, 0,/(env, intno == 3 ? SVM_EXIT_EXCP_BASE + 3 : SVM_EXIT_SWINT, 0,/' \
        "$source.new/target/i386/tcg/excp_helper.c"
    [ "$(grep -c 'cpu_x86_update_dr7(env, x86' "$source.new/target/i386/tcg/sysemu/svm_helper.c")" = 2 ] &&
        grep -q 'intno == 3 ?' "$source.new/target/i386/tcg/excp_helper.c" || fail "this QEMU is not as expected"
    mv "$source.new" "$source"
fi

step "compile it"
mkdir -p "$source/nested"
printf 'CONFIG_%s=y\n' Q35 VIRTIO_PCI VIRTIO_SERIAL VIRTIO_9P >"$source/configs/devices/x86_64-softmmu/nested.mak"
cd "$source/nested"
[ -e build.ninja ] || ../configure --target-list=x86_64-softmmu --with-devices-x86_64=nested --without-default-devices \
    --without-default-features --enable-tcg --enable-virtfs --enable-attr --enable-cap-ng --disable-werror \
    >configure.log || fail "see $PWD/configure.log"
ninja qemu-system-x86_64 >ninja.log || fail "see $PWD/ninja.log"
install -D qemu-system-x86_64 "$out"
step "done: $(du -h "$out")"
