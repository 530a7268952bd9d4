"""barotto/test386.asm: firmware that tests a 386 and writes POST codes, FF at its end; and the account of its test EE,
whose last word is a comparison with the suite's own reference."""
import itertools
import os
import shutil
import sys

import machine
import report
from report import FAILED, PASSED

POST, OUT = 0x190, 0xE9                 # ports: what POST_PORT and OUT_PORT are configured to
END, ARITHMETIC = 0xFF, 0xEE


def build(folder, directory):
    """The ROM, its results sent to OUT."""
    source = os.path.join(directory, 'src')
    shutil.copytree(os.path.join(folder, 'src'), source)
    configuration = os.path.join(source, 'configuration.asm')
    with open(configuration) as file:
        text = file.read()
    with open(configuration, 'w') as file:
        file.write(text.replace('OUT_PORT equ 0', f'OUT_PORT equ {OUT:#x}', 1))
    rom = os.path.join(directory, 'test386.bin')
    with open(rom, 'wb') as file:
        file.write(machine.assemble(os.path.join(source, 'test386.asm'), directory, '-i', source + '/'))
    return rom


def judge(folder, directory, qkvm):
    posts, results = os.path.join(directory, 'posts'), os.path.join(directory, 'results')
    try:
        machine.run([qkvm, '-accel', 'tcg', '-m', '16', '-nodefaults', '-display', 'none', '-action', 'reboot=shutdown',
                     '-bios', build(folder, directory),
                     '-chardev', f'file,id=posts,path={posts}',
                     '-device', f'isa-debugcon,iobase={POST:#x},chardev=posts',
                     '-chardev', f'file,id=results,path={results}',
                     '-device', f'isa-debugcon,iobase={OUT:#x},chardev=results'], 20)
    except machine.Failed as problem:
        if 'no end' not in str(problem):            # it ends in HLT, for good
            yield 'run', FAILED, str(problem)
            return
    with open(posts, 'rb') as file:
        codes = file.read()
    for code in codes[:-1]:
        yield f'POST {code:02X}', PASSED, ''
    yield f'POST {codes[-1]:02X}', PASSED if codes[-1] == END else FAILED, 'the last code; FF is the end'
    with open(results) as found, open(os.path.join(folder, 'test386-EE-reference.txt')) as reference:
        pairs = list(itertools.zip_longest(found.read().splitlines(), reference.read().splitlines(), fillvalue=''))
    differing = [pair for pair in pairs if pair[0].rstrip() != pair[1].rstrip()]
    yield f'{len(pairs)} lines of results of EE', FAILED if differing else PASSED, \
        f'{len(differing)} differ, first {differing[:1]}'


def main():
    args = report.arguments('barotto/test386.asm')
    directory = report.folder()
    outcomes = {outcome: [] for outcome in (PASSED, FAILED, report.SKIPPED)}
    try:
        for test, outcome, text in judge(args.folder, directory, args.qkvm):
            outcomes[outcome].append((test, text))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return report.account(outcomes)


if __name__ == '__main__':
    sys.exit(main())
