#!/bin/bash
# scripts/bench-libvirt.sh: out/qkvm and qemu-system-x86_64 in turns under one libvirt: milliseconds of `virsh start
# --paused`, of `virsh start`, and from its beginning to the firmware's first byte on port 402h; on pc and on q35, each
# with what virt-install gives a guest. Then wakeups per second of an idle Linux with qemu-xhci and usb-tablet: the
# voluntary context switches of all threads. Medians of RUNS (default 9); of IDLE (default 3) for the last. Needs what
# accept-libvirt.sh needs.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/libvirt/lib.sh
tools="qemu-system-x86_64:qemu-system-x86"
own_libvirt "$@"

cat >"$work/bench.py" <<'EOF'
import glob, os, re, signal, statistics, subprocess, sys, time

work, qkvm, disk, runs, idle_runs = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
programs = {"qkvm": qkvm, "qemu": "/usr/bin/qemu-system-x86_64"}


def define(name, program, machine):
    usb = "<controller type='usb' model='qemu-xhci' ports='15'/>" if machine == "q35" else "".join(
        f"<controller type='usb' index='0' model='ich9-{m}'/>" for m in ("ehci1", "uhci1", "uhci2", "uhci3"))
    with open(f"{work}/{name}.xml", "w") as file:
        file.write(f"""<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name><memory unit='MiB'>1024</memory><vcpu>2</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type><boot dev='hd'/></os><features><acpi/><apic/></features>
  <devices><emulator>{program}</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{work}/disk.qcow2'/>
      <target dev='vda' bus='virtio'/></disk>
    {usb}<interface type='network'><source network='default'/><model type='virtio'/></interface>
    <console type='pty'/><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <input type='tablet' bus='usb'/><graphics type='vnc' port='-1'/><video><model type='vga'/></video>
    <memballoon model='virtio'/><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
  <qemu:commandline><qemu:arg value='-debugcon'/><qemu:arg value='file:{work}/{name}.debug'/>
    <qemu:arg value='-global'/><qemu:arg value='isa-debugcon.iobase=0x402'/></qemu:commandline>
</domain>""")
    virsh("define", f"{work}/{name}.xml")


def virsh(*words):
    return subprocess.run(["virsh", *words], check=True, capture_output=True, text=True).stdout


def start(name):
    """Milliseconds: started paused; started; first byte."""
    begin = time.monotonic()
    virsh("start", name, "--paused")
    paused = time.monotonic() - begin
    virsh("destroy", name)
    debug = f"{work}/{name}.debug"
    if os.path.exists(debug): os.remove(debug)
    begin = time.monotonic()
    process = subprocess.Popen(["virsh", "start", name], stdout=subprocess.DEVNULL)
    while not os.path.exists(debug) or os.stat(debug).st_size == 0: time.sleep(0.0005)
    first = time.monotonic() - begin
    if process.wait(): sys.exit(f"virsh start {name} fails")
    started = time.monotonic() - begin
    virsh("destroy", name)
    return paused * 1000, started * 1000, first * 1000


def switches(pid):
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        with open(path) as status:
            total += int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status.read(), re.M).group(1))
    return total


def idle(program):
    """Wakeups per second of a guest that is logged in nowhere and has settled for a minute."""
    log = f"{work}/idle.log"
    machine = subprocess.Popen([program, "-accel", "tcg", "-m", "1G", "-snapshot", disk, "-device", "qemu-xhci",
        "-device", "usb-tablet", "-display", "none", "-monitor", "none", "-serial", f"file:{log}"],
        stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 300
        while not (os.path.exists(log) and b"login:" in open(log, "rb").read()):
            if time.monotonic() > end: sys.exit(f"{program}: no login")
            time.sleep(1)
        time.sleep(60)
        before, begin = switches(machine.pid), time.monotonic()
        time.sleep(30)
        return (switches(machine.pid) - before) / (time.monotonic() - begin)
    finally:
        machine.send_signal(signal.SIGKILL)
        machine.wait()
        if os.path.exists(log): os.remove(log)


def show(name, results):
    print(f"{name:44}" + "".join(f"{statistics.median(results[p]):12.1f}" for p in programs), flush=True)


print(f"load {os.getloadavg()[0]:.1f} at the beginning; medians of {runs}")
print(f"{'':44}" + "".join(f"{p:>12}" for p in programs))
for machine in ("pc", "q35"):
    for name, program in programs.items():
        define(f"{name}-{machine}", program, machine)
        start(f"{name}-{machine}")                                 # libvirt asks the emulator once
    results = {name: [] for name in programs}
    for _ in range(runs):
        for name in programs: results[name].append(start(f"{name}-{machine}"))
    for i, what in enumerate(("virsh start --paused, ms", "virsh start, ms", "to the firmware's first byte, ms")):
        show(f"{machine}: {what}", {name: [r[i] for r in results[name]] for name in programs})
results = {name: [] for name in programs}
for _ in range(idle_runs):
    for name, program in programs.items(): results[name].append(idle(program))
if idle_runs: show("idle with qemu-xhci and usb-tablet, wakeups/s", results)
print(f"load {os.getloadavg()[0]:.1f} at the end")
EOF
qemu-img create -q -f qcow2 -b "$DISK" -F qcow2 "$work/disk.qcow2"
python3 "$work/bench.py" "$work" "$QKVM" "$DISK" "${RUNS:-9}" "${IDLE:-3}" || failed=1
