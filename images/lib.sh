# Shared by the scripts of this directory.

suite=bookworm
cache=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.cache
mkdir -p "$cache"

step() { echo "$(basename "$0"): $*" >&2; }
fail() { echo "$(basename "$0"): $*" >&2; exit 1; }

# need WHAT:PACKAGE...: install the packages whose WHAT, a command or a file's full path, is missing.
need() {
    local pair missing=()
    for pair; do
        case $pair in
        /*) [ -e "${pair%:*}" ] || missing+=("${pair#*:}") ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}") ;;
        esac
    done
    [ ${#missing[@]} = 0 ] && return
    command -v apt-get >/dev/null || fail "missing what Debian's packages ${missing[*]} contain; please install it"
    step "install ${missing[*]}"
    install_packages "${missing[@]}" 2>/dev/null ||
        { as_root apt-get update -q >/dev/null && install_packages "${missing[@]}"; }
}

install_packages() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@" >/dev/null
}

# as_root COMMAND...: run it as root, by sudo if need be.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else fail "needs root: run as root, or first: $*"
    fi
}

# download ARCH DIR PACKAGE...: fetch Debian 12 packages, without their dependencies, into DIR; a linux-image
# metapackage stands for the kernel that it depends on. mmdebstrap lends an apt of its own with Debian's default mirror
# and keys, so that neither the release nor the architecture of this machine matters. Of its three suites the point
# release alone is kept: it changes seldom, so that tests see the same kernel for months.
download() {
    local arch=$1 dir=$2
    shift 2
    [ -e "$dir/complete" ] && return
    need mmdebstrap:mmdebstrap
    rm -rf "$dir"
    mkdir -p "$dir"
    names="$*" dir=$dir mmdebstrap --quiet --variant=custom --architectures="$arch" --skip=check/qemu \
        --setup-hook='sed -i "/-security\|-updates/d" "$1/etc/apt/sources.list"' \
        --aptopt='APT::Sandbox::User "root"' \
        --customize-hook='export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG; cd "$dir"; for name in $names; do
            kernel=$(apt-cache depends "$name" | sed -n "s/.*Depends: \(linux-image-[0-9].*\)/\1/p")
            apt-get download -q "${kernel:-$name}" || exit; done' \
        "$suite" /dev/null
    touch "$dir/complete"
}
