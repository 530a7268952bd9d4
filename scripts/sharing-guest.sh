#!/bin/bash
# scripts/sharing-guest.sh WHAT...: run by the guest of accept-sharing.sh in a root file system of Debian's, with a
# shared folder at /mnt whose security model is $SHARE. Prints "ok SHARE: WHAT" and "FAILED SHARE: WHAT" lines.
cd /mnt || exit
umask 022
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
export GIT_AUTHOR_NAME=guest GIT_AUTHOR_EMAIL=guest@localhost GIT_COMMITTER_NAME=guest \
    GIT_COMMITTER_EMAIL=guest@localhost

say() {
    if [ "$2" = 0 ]; then echo "ok $SHARE: $1"; else echo "FAILED $SHARE: $1: $(tail -n 3 /tmp/out | tr '\n' ' ')"; fi
}
check() { "${@:2}" >/tmp/out 2>&1; say "$1" $?; } # check WHAT COMMAND...
same() { [ "$2" = "$3" ]; local is=$?; echo "'$2' is not '$3'" >/tmp/out; say "$1" $is; }

root() {
    same "the root is 9P" "$(sed -n 's|^[^ ]* / \([^ ]*\) .*|\1|p' /proc/mounts | tail -n 1)" 9p
    touch /usr/new 2>/dev/null
    same "the root is read only" "$?" 1
    check "programs of the root run" perl -e 'exit 0'
}

git_work() {
    git config --global safe.directory '*'
    git config --global init.defaultBranch main
    check "git init" git init -q repo
    cd repo || return
    seq 10000 >numbers
    mkdir -p deep/er
    echo text >deep/er/file
    ln -s deep/er/file link
    printf '#!/bin/sh\n' >program
    chmod +x program
    check "git add" git add .
    check "git commit" git commit -qm first
    same "git status of what is committed" "$(git status --porcelain)" ""
    echo more >>numbers
    same "git status of what has changed" "$(git status --porcelain)" " M numbers"
    chmod -x program
    same "git diff of a mode" "$(git diff --summary program)" " mode change 100755 => 100644 program"
    chmod +x program
    check "git commit -a" git commit -qam second
    check "git push" git push -q /mnt/origin.git main
    check "git gc" git gc -q
    check "git fsck" git fsck --strict
    cd ..
    check "git clone" git clone -q repo clone
    check "git clone by file://" git clone -q file:///mnt/repo far
    same "a clone is the same" "$(git -C clone rev-parse HEAD) $(cat clone/numbers | md5sum)" \
        "$(git -C repo rev-parse HEAD) $(cat repo/numbers | md5sum)"
    check "git worktree and checkout" \
        sh -c 'cd clone && git worktree add -q ../tree HEAD~ && test "$(wc -l <../tree/numbers)" = 10000'
    rm -rf clone far
    same "git's folders go" "$(ls -d clone far 2>/dev/null)" ""
}

build() {
    mkdir -p src
    for i in 1 2 3 4 5 6; do echo "#include \"all.h\"
int part$i(int x) { return x + $i; }" >src/part$i.c; done
    for i in 1 2 3 4 5 6; do echo "int part$i(int x);"; done >src/all.h
    echo '#include <stdio.h>
#include "all.h"
int main(void) { printf("%d\n", part1(part2(part3(part4(part5(part6(0))))))); return 0; }' >src/main.c
    printf 'OBJECTS = main.o part1.o part2.o part3.o part4.o part5.o part6.o\nall: libparts.a program
program: main.o libparts.a\n\tgcc -g -o $@ $^\nlibparts.a: part1.o part2.o part3.o part4.o part5.o part6.o
\tar rcs $@ $^\n%%.o: %%.c all.h\n\tgcc -g -O2 -c -o $@ $<\n' >src/Makefile
    check "make" make -C src -j2
    same "what was made runs" "$(src/program)" 21
    check "make finds nothing to do" make -q -C src
    sleep 1
    echo "int part1(int x) { return x + 101; }" >src/part1.c
    check "make again" make -C src
    same "what was made again runs" "$(src/program)" 121
    check "make clean" sh -c 'rm src/*.o && ! ls src/*.o'
}

owners() {
    mkdir -p owners
    cd owners || return
    echo special >special
    chown 1234:4321 special
    chmod 4751 special
    mkdir -m 2770 folder
    chown 5:6 folder
    mkfifo -m 640 pipe
    mknod -m 600 char c 1 3
    mknod -m 660 block b 7 200
    chown 0:9 block
    ln -s special/../elsewhere link
    ln special hard
    perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un("socket")) or die'
    touch -d '2001-02-03 04:05:06 UTC' folder/old                  # Linux 6.1's 9P sets whole seconds
    same "owners and modes" "$(stat -c '%u:%g %a %F' special folder)" "1234:4321 4751 regular file
5:6 2770 directory"
    same "devices and pipes" "$(stat -c '%F %t:%T %a %u:%g' pipe char block)" "fifo 0:0 640 0:0
character special file 1:3 600 0:0
block special file 7:c8 660 0:9"
    same "a symbolic link" "$(readlink link)" special/../elsewhere
    same "times" "$(TZ=UTC stat -c %y folder/old)" "2001-02-03 04:05:06.000000000 +0000"
    chmod 600 hard
    same "a mode by another name" "$(stat -c %a special)" 600
    chmod 4751 special hard
    cd ..
    check "tar" sh -c 'tar -C owners --exclude=socket -cf all.tar . && mkdir -p copy && tar -C copy -xpf all.tar'
    mkdir -p copy2
    check "cp -a" cp -a owners/folder owners/special owners/link owners/char owners/pipe copy2/
    same "what tar has copied" "$(cd copy && tree)" "$(cd owners && tree | grep -v socket)"
}

# What a tree is.
tree() {
    find . -printf '%y %m %U:%G %n %p %l\n' | sort -k 5
    find . -type f -exec md5sum {} + | sort -k 2
    find . \( -type b -o -type c \) -exec stat -c '%n %t:%T' {} + | sort
}
list() { (cd owners && tree && getfattr -R -d . 2>/dev/null) | sed 's/^/LISTED /'; }

attributes() {
    echo text >attributed
    check "an attribute is set" setfattr -n user.colour -v blue attributed
    same "an attribute is read" "$(getfattr --only-values -n user.colour attributed)" blue
    same "attributes are listed" "$(getfattr attributed | grep -c '^user.colour$')" 1
    same "nothing of the host's is listed" "$(getfattr -m - attributed | grep -c virtfs)" 0
    check "a large attribute" setfattr -n user.large -v "$(head -c 2000 /dev/zero | tr '\0' x)" attributed
    same "a large attribute is read" "$(getfattr --only-values -n user.large attributed | wc -c)" 2000
    check "an attribute goes" setfattr -x user.colour attributed
    same "it is gone" "$(getfattr attributed | grep -c colour)" 0
}

use() {
    local private=
    case $CACHE in none) private=private ;; esac
    gcc -O2 -o fileuse /tmp/fileuse.c || return
    mkdir -p using
    ./fileuse using $private | sed "s/^ok /ok $SHARE: /; s/^FAILED /FAILED $SHARE: /"
    (exec 9>locked && flock 9 && flock -n locked true)
    same "flock(1)" "$?" 1
    head -c 20000000 /dev/urandom >big
    same "a large file" "$(cat big | md5sum)" "$(dd if=big bs=1M iflag=fullblock 2>/dev/null | md5sum)"
    same "df tells of the folder" "$(df -P . | tail -n 1 | grep -c ' /mnt$')" 1
    rm -rf using big
}

for what; do
    case $what in
    git) git_work ;;
    root | build | owners | list | attributes | use) $what ;;
    esac
    cd /mnt || exit
done
