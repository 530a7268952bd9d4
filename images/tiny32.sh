#!/bin/bash
# images/tiny32.sh OUTPUT_DIR: as tiny.sh, with Debian's 32-bit kernel and busybox. This machine's dpkg is not touched.
exec "$(dirname "$0")/tiny.sh" "${1:?usage: $0 OUTPUT_DIR}" i386
