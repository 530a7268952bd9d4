#!/bin/bash
# link.sh VERSION FOLDER: makes in FOLDER what the executable is linked with to start on glibc VERSION and all later
# ones. libc.so and its like have no code, only the names that VERSION had, each with the newest version that VERSION
# had of it: this machine's glibc still has all of them. Without these the linker would take the newest versions that
# there are here.
set -euo pipefail
version=$1 folder=$2
here=$(cd "$(dirname "$0")" && pwd)
compiler=$(command -v clang || command -v gcc)
mkdir -p "$folder"
cd "$folder"

for library in libc.so.6 libm.so.6 libpthread.so.0 libdl.so.2 librt.so.1; do
    readelf --wide --dyn-syms "$("$compiler" -print-file-name=$library)" |
        LC_ALL=C awk -v limit="$version" -v map="$library.map" '
        function number(version, part) { split(version, part, "."); return (part[1] * 1000 + part[2]) * 1000 + part[3] }
        # Num: Value Size Type Bind Vis Ndx Name@Version, with a second @ at the version that is the default.
        $4 ~ /^(FUNC|IFUNC|OBJECT)$/ && $7 ~ /^[0-9]+$/ && $8 ~ /@GLIBC_[0-9.]+$/ {
            name = $8; sub(/@.*/, "", name)
            its = $8; sub(/.*@GLIBC_/, "", its)
            if (number(its) > number(limit) || number(its) <= number(newest[name])) next
            newest[name] = its; type[name] = $4 == "OBJECT" ? "object" : "function"
        }
        END {
            for (name in newest) {
                printf ".globl %s\n.type %s, @%s\n%s:\n", name, name, type[name], name
                names[newest[name]] = names[newest[name]] name "; "
            }
            for (its in names) printf "GLIBC_%s { %s};\n", its, names[its] >map
        }' >"$library.s"
    "$compiler" -c "$library.s" -o "$library.o"
    ld -shared -soname "$library" --version-script "$library.map" "$library.o" -o "$library"
done
for name in m pthread dl rt; do ln -sf lib$name.so.[0-9] lib$name.so; done
# What a program has of libc itself, such as atexit, is this machine's.
echo "GROUP ( -l:libc.so.6 -l:libc_nonshared.a AS_NEEDED ( -l:ld-linux-x86-64.so.2 ) )" >libc.so

"$compiler" -O2 -fPIC -c "$here/start.c" -o start.o
