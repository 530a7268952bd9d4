# Sourced by scripts/accept-*.sh: a libvirt of one's own, in namespaces, so that nothing of the host's libvirt, networks
# or guests is touched, and checks that are counted. The variables of those scripts:
#   QKVM=out/qkvm        the emulator
#   DISK=.cache/demo.qcow2  a Debian disk with qemu-guest-agent, by images/demo.sh; it is not written to
#   TYPES="qemu kvm"     of domains; qemu alone where /dev/kvm cannot run Linux
#   KEEP=1               keeps libvirt's logs in artifacts/accept-libvirt also where nothing failed

skip() { echo "skipped: $*"; exit 0; }

# own_libvirt [ARGUMENT…]: runs the script again in namespaces of its own, where libvirt then runs.
# Tools beyond libvirt's own stand in $tools as COMMAND:PACKAGE; where one is missing, the script is skipped.
own_libvirt() {
    local tool
    if [ -z "${QKVM_ACCEPT:-}" ]; then
        [ "$(id -u)" = 0 ] || skip "needs root"
        for tool in libvirtd:libvirt-daemon-system virsh:libvirt-clients dnsmasq:dnsmasq-base iptables:iptables \
            ip:iproute2 qemu-img:qemu-utils python3:python3 ${tools:-}; do
            PATH=$PATH:/usr/sbin command -v "${tool%:*}" >/dev/null \
                || skip "needs ${tool%:*} (apt install ${tool#*:})"
        done
        DISK=$(realpath "${DISK:-.cache/demo.qcow2}")
        [ -f "$DISK" ] || skip "needs $DISK: images/demo.sh makes it"
        [ -x "${QKVM:-out/qkvm}" ] || skip "needs ${QKVM:-out/qkvm}: make"
        QKVM=$(realpath "${QKVM:-out/qkvm}")
        export DISK QKVM QKVM_ACCEPT=1
        exec unshare --mount --net --pid --fork --mount-proc --kill-child "scripts/${0##*/}" "$@"
    fi
    export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C LIBVIRT_DEFAULT_URI=qemu:///system
    export domain='' before=''
    work=$(mktemp -d)
    passed=0 failed=0
    trap 'end' EXIT
    start_libvirt
}

end() {
    virsh list --name 2>/dev/null | while read -r name; do [ -z "$name" ] || virsh destroy "$name" >/dev/null 2>&1; done
    [ -n "${daemon:-}" ] && kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null
    if [ "$failed" != 0 ] || [ -n "${KEEP:-}" ]; then
        mkdir -p artifacts/accept-libvirt
        cp -r /var/log/libvirt/. "$work"/*.log artifacts/accept-libvirt/ 2>/dev/null
    fi
    rm -rf "$work"
    echo "$passed passed, $failed failed"
    exit $((failed > 0))
}

ok() { passed=$((passed + 1)); echo "ok      $1"; }
bad() { failed=$((failed + 1)); echo "FAILED  $1: $(tr '\n' ' ' <<<"${2:-}" | cut -c1-300)"; }

# limited SECONDS COMMAND…: functions, too.
limited() {
    local seconds=$1
    shift
    timeout "$seconds" bash -c '"$@"' - "$@"
}

# check NAME PATTERN COMMAND…: the command succeeds and its output has the pattern.
check() {
    local name=$1 pattern=$2 output
    shift 2
    if output=$(limited 300 "$@" 2>&1 </dev/null) && grep -qE -- "$pattern" <<<"$output"; then ok "$name"
    else bad "$name" "$output"; fi
}

# refused NAME PATTERN COMMAND…: the command fails and says why.
refused() {
    local name=$1 pattern=$2 output
    shift 2
    if ! output=$(limited 120 "$@" 2>&1 </dev/null) && grep -qE -- "$pattern" <<<"$output"; then ok "$name"
    else bad "$name" "$output"; fi
}

# eventually NAME PATTERN SECONDS COMMAND…: its output has the pattern, sooner or later.
eventually() {
    local name=$1 pattern=$2 until=$((SECONDS + $3)) output
    shift 3
    while :; do
        output=$(limited 60 "$@" 2>&1 </dev/null)
        grep -qE -- "$pattern" <<<"$output" && { ok "$name"; return; }
        [ $SECONDS -lt $until ] || break
        sleep 1
    done
    bad "$name" "$output"
}

# in_guest COMMAND…: what the command prints, run by the guest's agent.
in_guest() {
    python3 - "$domain" "$@" <<'PYTHON'
import base64, json, subprocess, sys, time
domain, command = sys.argv[1], " ".join(sys.argv[2:])
def agent(name, **arguments):
    out = subprocess.run(["virsh", "qemu-agent-command", domain, json.dumps({"execute": name, "arguments": arguments})],
        capture_output=True, text=True, timeout=120)
    if out.returncode: sys.exit(out.stderr.strip())
    return json.loads(out.stdout)["return"]
pid = agent("guest-exec", path="/bin/sh", arg=["-c", command], **{"capture-output": True})["pid"]
for _ in range(240):
    status = agent("guest-exec-status", pid=pid)
    if status["exited"]: break
    time.sleep(0.5)
print(base64.b64decode(status.get("out-data", "")).decode(), base64.b64decode(status.get("err-data", "")).decode())
PYTHON
}

# login: types root at `virsh console`, runs a command, leaves with ^].
login() {
    python3 - "$domain" <<'PYTHON'
import os, pty, re, select, sys, time
pid, fd = pty.fork()
if pid == 0: os.execvp("virsh", ["virsh", "console", "--force", sys.argv[1]])
seen = b""
def expect(pattern, seconds, nudge=None):
    global seen
    end = time.time() + seconds
    while not re.search(pattern, seen):
        ready, _, _ = select.select([fd], [], [], 5)
        if ready: seen += os.read(fd, 4096)
        elif nudge: os.write(fd, nudge)
        if time.time() > end: sys.exit(f"no {pattern} on the console: {seen[-200:]}")
    seen = b""
expect(rb"login: ", 300, b"\r")
os.write(fd, b"root\r")
expect(rb"# ", 60)
os.write(fd, b"echo made-$((6*7)); tty\r")
expect(rb"made-42[^#]*ttyS0", 60)
os.write(fd, b"exit\r")
expect(rb"login: ", 60)
os.write(fd, b"\x1d")
os.waitpid(pid, 0)
print("logged in and out")
PYTHON
}

# An own libvirt: its folders are empty ones that no other process sees.
start_libvirt() {
    cp -r /etc/libvirt "$work/etc"
    for folder in /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
        mkdir -p "$folder"
        mount -t tmpfs -o mode=755 tmpfs "$folder"
    done
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/lock /var/lib/libvirt/{boot,images}
    cp -r "$work/etc/." /etc/libvirt
    rm -rf /etc/libvirt/qemu/autostart /etc/libvirt/qemu/*.xml
    cat >>/etc/libvirt/qemu.conf <<'CONF'
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
CONF
    ip link set lo up
    start_daemon
    virsh net-info default >/dev/null 2>&1 || virsh net-define /usr/share/libvirt/networks/default.xml >/dev/null
    check "the default network" "started|active" sh -c 'virsh net-start default || virsh net-info default'
}

start_daemon() {
    libvirtd >"$work/libvirtd.log" 2>&1 &
    daemon=$!
    for _ in $(seq 100); do virsh version >/dev/null 2>&1 && return; sleep 0.2; done
    echo "libvirtd does not answer: $(tail -3 "$work/libvirtd.log")"
    exit 1
}

# "another boot" once the guest is not that of $before any more.
boot_id() { in_guest "cat /proc/sys/kernel/random/boot_id" 2>/dev/null | tr -dc 0-9a-f-; }
another_boot() {
    local id
    id=$(boot_id)
    [ -n "$id" ] && [ "$id" != "$before" ] && echo another boot
}

export -f in_guest login boot_id another_boot
