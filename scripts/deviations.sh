#!/bin/bash
# scripts/deviations.sh: prints docs/deviations.md, made of the "Deviations:" comments in the sources. After a change of
# one:
#   scripts/deviations.sh >docs/deviations.md
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

# list TITLE DIRECTORY…: one line for each comment that names a deviation, up to the end of its paragraph or tag.
list() {
    printf '\n## %s\n\n' "$1"
    shift
    find "$@" -name '*.cs' | sort | xargs awk '
        function flush() {
            if (text == "") return
            gsub(/<see cref="|"\/>|<c>|<\/c>/, "", text)
            gsub(/&lt;/, "<", text); gsub(/&gt;/, ">", text); gsub(/&amp;/, "\\&", text)
            sub(/[.]? *$/, ".", text)
            printf "- **%s**: %s\n", name, text
            text = ""
        }
        FNR == 1 { flush(); name = FILENAME; sub(/.*\//, "", name); sub(/[.]cs$/, "", name) }
        {
            comment = match($0, /^ *\/\/+ ?/)
            line = comment ? substr($0, RLENGTH + 1) : $0
            if (text != "" && !comment) flush()
            if (match(line, /Deviations?:( |$)/)) { flush(); line = substr(line, RSTART + RLENGTH); inside = begun = 1 }
            else if (text == "" && !begun) inside = 0
            if (!inside) next
            ends = sub(/<\/(remarks|summary)>.*/, "", line)
            text = text (text == "" ? "" : " ") line
            begun = line == ""
            if (ends) { flush(); inside = 0 }
        }
        END { flush() }'
}

cat <<'HEAD'
# Deviations

What is knowingly unlike the chip, the format or the protocol, as the sources say it. What is not built at all
stands in the [README](../README.md). `scripts/deviations.sh >docs/deviations.md` makes this page; a test compares.
HEAD
list "The software CPU" src/Qkvm.Accel/Tcg
list "KVM" src/Qkvm.Accel/Kvm
list "Interrupt controllers" src/Qkvm.Hw/{Intc,HyperV}
list "IOMMU" src/Qkvm.Hw/Iommu
list "Timers and clock" src/Qkvm.Hw/Timer
list "Chipset and machine" src/Qkvm.Hw/{Firmware,Pci,Watchdog} src/Qkvm.Machines src/Qkvm.Core
list "ISA devices" src/Qkvm.Hw/Isa src/Qkvm.Hw/Char
list "Keyboard and mouse" src/Qkvm.Hw/Input
list "USB" src/Qkvm.Hw/Usb
list "Screen" src/Qkvm.Hw/Display src/Qkvm.Backends/Display
list "Sound" src/Qkvm.Hw/Audio
list "Disks and CD-ROM" src/Qkvm.Hw/{Nvme,Scsi,Storage}
list "Network cards" src/Qkvm.Hw/Net
list "TPM" src/Qkvm.Hw/Tpm src/Qkvm.Backends/Tpm
list "Virtio" src/Qkvm.Hw/Virtio
list "Images" src/Qkvm.Storage
list "Shared folders" src/Qkvm.Hw/NineP src/Qkvm.Backends/Files
list "Other backends" src/Qkvm.Backends/{Char,Net,Objects,Vhost} src/Qkvm.Host src/Qkvm.Control src/Qkvm/
