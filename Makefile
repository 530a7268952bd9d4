# make           build out/qkvm, one executable that needs nothing but glibc 2.17 or later
# make run       boot the demo disk (Debian 12) to its login on this terminal
# make test      run all tests; last line: N passed, N failed, N skipped
# make fuzz-cpu  random code on the software CPU and on this processor until something differs; SECONDS=600 SEED=…
# make fuzz-net  random drivers and frames for the network cards and the user network; SECONDS=600 SEED=…
# make fuzz-disks  random drivers for NVMe controllers and virtio SCSI hosts; SECONDS=600 SEED=…
# make fuzz-usb  random drivers for the USB controllers and what hangs on them; SECONDS=600 SEED=…
# make fuzz-vnc  random viewers and browsers of the VNC server, plain, by TLS and by websocket; SECONDS=600 SEED=…
# make fuzz-control  random clients of QMP, monitor, telnet, websocket and gdb; SECONDS=600 SEED=…
# make fuzz-images  damaged images of every format; SECONDS=600 SEED=…
# make install   put it below PREFIX (/usr/local) with manual pages and completions; DESTDIR=… in front, for packages
# make package   a Debian package, and an archive for other systems, in out/
# make bench     compare with qemu-system-x86_64; IMAGE=disk.qcow2 adds that disk's way to its login
# make clean     remove what was built; the guests in .cache stay
# Packages that are missing are installed with apt-get (as root or by sudo).

export DOTNET_CLI_TELEMETRY_OPTOUT := 1
export DOTNET_NOLOGO := 1
export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT := 1
export DOTNET_CLI_UI_LANGUAGE := en

sources := $(shell find src -type f) Directory.Build.props Directory.Packages.props
firmware := artifacts/firmware/bios-256k.bin
web := artifacts/web/complete

.PHONY: build run test fuzz-cpu fuzz-net fuzz-disks fuzz-usb fuzz-vnc fuzz-control fuzz-images install package bench clean
build: out/qkvm

$(firmware): $(wildcard firmware/*)
	@scripts/setup.sh build
	@firmware/build.sh artifacts/firmware
	@touch $@

$(web): $(wildcard web/*)
	@web/build.sh artifacts/web

out/qkvm: $(sources) $(firmware) $(web)
	@scripts/setup.sh build
	dotnet publish src/Qkvm -c Release -r linux-x64 -v q -nodeReuse:false
	@install -D artifacts/publish/Qkvm/release_linux-x64/qkvm $@
	@ls -lh $@ | awk '{ print $$9 ": " $$5 }'

run: out/qkvm
	@scripts/setup.sh run
	@scripts/run.sh

test: out/qkvm
	@scripts/setup.sh test
	@QKVM=$(CURDIR)/out/qkvm scripts/test.sh $(PROJECTS)

PREFIX ?= /usr/local
install: out/qkvm
	@scripts/install.sh $(PREFIX)

package: out/qkvm
	@scripts/package.sh

SECONDS ?= 600
fuzz-cpu:
	@scripts/setup.sh build
	@dotnet build tests/Qkvm.Accel.Tests -c Release --nologo -v q -nodeReuse:false
	@dotnet artifacts/bin/Qkvm.Accel.Tests/release/Qkvm.Accel.Tests.dll fuzz $(SECONDS) $(SEED)

fuzz-net:
	@scripts/setup.sh build
	@dotnet build tests/Qkvm.Hw.Tests -c Release --nologo -v q -nodeReuse:false
	@dotnet build tests/Qkvm.Backends.Tests -c Release --nologo -v q -nodeReuse:false
	@dotnet artifacts/bin/Qkvm.Hw.Tests/release/Qkvm.Hw.Tests.dll fuzz-cards $$(($(SECONDS) / 2)) $(SEED)
	@dotnet artifacts/bin/Qkvm.Backends.Tests/release/Qkvm.Backends.Tests.dll fuzz-net $$(($(SECONDS) / 2)) $(SEED)

fuzz-disks:
	@scripts/setup.sh build
	@dotnet build tests/Qkvm.Hw.Tests -c Release --nologo -v q -nodeReuse:false
	@dotnet artifacts/bin/Qkvm.Hw.Tests/release/Qkvm.Hw.Tests.dll fuzz-disks $(SECONDS) $(SEED)

fuzz-usb:
	@scripts/setup.sh build
	@dotnet build tests/Qkvm.Hw.Tests -c Release --nologo -v q -nodeReuse:false
	@dotnet artifacts/bin/Qkvm.Hw.Tests/release/Qkvm.Hw.Tests.dll fuzz-usb $(SECONDS) $(SEED)

fuzz-vnc:
	@scripts/setup.sh build
	@dotnet build tests/Qkvm.Backends.Tests -c Release --nologo -v q -nodeReuse:false
	@DOTNET_GCHeapHardLimit=0x60000000 dotnet artifacts/bin/Qkvm.Backends.Tests/release/Qkvm.Backends.Tests.dll fuzz-vnc $(SECONDS) $(SEED)

fuzz-control:
	@scripts/setup.sh build
	@dotnet build tests/Qkvm.Tests -c Release --nologo -v q -nodeReuse:false
	@DOTNET_GCHeapHardLimit=0x60000000 dotnet artifacts/bin/Qkvm.Tests/release/Qkvm.Tests.dll fuzz-control $(SECONDS) $(SEED)

fuzz-images:
	@scripts/setup.sh build
	@dotnet build tests/Qkvm.Storage.Tests -c Release --nologo -v q -nodeReuse:false
	@DOTNET_GCHeapHardLimit=0x60000000 dotnet artifacts/bin/Qkvm.Storage.Tests/release/Qkvm.Storage.Tests.dll fuzz-images $(SECONDS) $(SEED)

bench: out/qkvm
	@scripts/setup.sh bench
	@scripts/bench.sh $(IMAGE)

clean:
	rm -rf artifacts out
