"""kvm-unit-tests, built for x86-64 or i386: kernels that test what a processor does in ring 0 and how it takes
interrupts and exceptions. x86/unittests.cfg says how each is started; each ends by isa-debug-exit, with lines that say
what passed."""
import functools
import os
import re
import shlex
import subprocess
import sys

import report
from report import FAILED, PASSED, SKIPPED

SECONDS = 300                       # the suite's own limits are for processors
PASS, SKIP = 1, 77 << 1 | 1         # what isa-debug-exit makes of the tests' own status
OF_KVM = re.compile('^(hyperv|vmware|asyncpf|pmu|intel_iommu|hypercall|kvmclock|s3)')
FAILURE = re.compile('^FAIL: (.*)$', re.MULTILINE)
SUMMARY = re.compile(r'^SUMMARY: .*$', re.MULTILINE)
# vmexit measures and checks nothing; the others take their features for granted.
NEEDS = {'svm': 'virtualization', 'ept': 'virtualization', 'vmx': 'virtualization',
         'vmexit': "nothing: it measures KVM's exits"}


def sections(path):
    """Name and keys of each test."""
    found, keys = {}, {}
    with open(path) as lines:
        for line in lines:
            line = line.strip()
            if line.startswith('['):
                keys = found.setdefault(line.strip('[]'), {})
            elif '=' in line and not line.startswith('#'):
                key, value = line.split('=', 1)
                keys[key.strip()] = value.strip()
    return found


def architecture(root):
    with open(os.path.join(root, 'config.mak')) as lines:
        return next(line.strip().split('=')[1] for line in lines if line.startswith('ARCH='))


class Runner:
    def __init__(self, root, qkvm, tests):
        self.root, self.qkvm, self.tests = root, qkvm, tests

    def __call__(self, name):
        keys = self.tests[name]
        kernel = os.path.join(self.root, 'x86', keys['file'])
        if not os.path.exists(kernel):
            return SKIPPED, 'the build has no such file'
        if OF_KVM.match(name):
            return SKIPPED, 'tests interfaces of hypervisors, or what is not built: counting, an IOMMU, sleep states'
        for start, what in NEEDS.items():
            if name.startswith(start):
                return SKIPPED, f'needs {what}'
        # Without forced emulation, which is KVM's own.
        command = [self.qkvm, '--no-reboot', '-nodefaults', '-accel', 'tcg', '-device', 'pc-testdev', '-device',
                   'isa-debug-exit,iobase=0xf4,iosize=0x4', '-display', 'none', '-serial', 'stdio',
                   '-device', 'pci-testdev',
                   '-kernel', kernel, '-smp', keys.get('smp', '1').replace('$MAX_SMP', '2')]
        if arguments := shlex.split(keys.get('test_args', '')):
            command += ['-append', ' '.join(arguments)]
        command += shlex.split(keys.get('qemu_params', keys.get('extra_params', '')))
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)
        except subprocess.TimeoutExpired as late:
            return FAILED, f'no end within {SECONDS} s; ' + last(late.stdout or b'')
        out = done.stdout.decode(errors='replace')
        summary = SUMMARY.findall(out)
        if summary and ' skipped' in summary[-1] and 'unexpected' not in summary[-1] and not FAILURE.search(out):
            return SKIPPED, 'the suite skips it: ' + last(done.stdout, 'SKIP')
        if done.returncode == PASS:
            return PASSED, ''
        if done.returncode == SKIP:
            return SKIPPED, 'the suite skips it: ' + last(done.stdout, 'SKIP')
        failures = FAILURE.findall(out)
        what = '; '.join(failures[:4]) or (done.stderr.decode(errors='replace').strip() or last(done.stdout))[-300:]
        return FAILED, f'{what} ({"".join(SUMMARY.findall(out)) or f"status {done.returncode}"})'


def last(out, word=''):
    lines = [line for line in out.decode(errors='replace').splitlines() if word in line]
    return lines[-1][:200] if lines else 'no output'


def main():
    args = report.arguments('kvm-unit-tests, configured and built in its folder')
    arch = architecture(args.folder)
    tests = {name: keys for name, keys in sections(os.path.join(args.folder, 'x86/unittests.cfg')).items()
             if args.only in name and keys.get('arch', arch) == arch and 'nodefault' not in keys.get('groups', '')}
    if not tests:
        sys.exit(f'no tests in {args.folder}')
    setup = functools.partial(Runner, args.folder, args.qkvm, tests)
    return report.run(sorted(tests), setup, args.jobs, report.folder())


if __name__ == '__main__':
    sys.exit(main())
