"""What the suites share: their command line, running tests side by side, and the account at the end."""
import argparse
import collections
import multiprocessing
import os
import shutil
import sys
import tempfile

PASSED, FAILED, SKIPPED = 'passed', 'failed', 'skipped'
_work = None


def arguments(description, *options):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('folder', help="the suite's checkout")
    parser.add_argument('qkvm', nargs='?', default='out/qkvm')
    parser.add_argument('--only', default='', metavar='TEXT', help='only tests with TEXT in their name')
    parser.add_argument('--jobs', type=int, default=len(os.sched_getaffinity(0)), help='how many run at a time')
    for option in options:
        parser.add_argument(option, action='store_true')
    args = parser.parse_args()
    args.folder, args.qkvm = os.path.abspath(args.folder), os.path.abspath(args.qkvm)
    for path in args.folder, args.qkvm:
        if not os.path.exists(path):
            sys.exit(f'{path} does not exist')
    return args


def folder():
    """A directory for this run's files, on tmpfs where there is one."""
    return tempfile.mkdtemp(prefix='cpu-suites-', dir='/dev/shm' if os.path.isdir('/dev/shm') else None)


def _start(setup):
    global _work
    _work = setup()


def _do(test):
    return test, _work(test)


def run(tests, setup, jobs, directory):
    """Runs setup()(test) -> (outcome, text) for each test, `jobs` at a time; prints the account; returns the exit
    status."""
    outcomes = collections.defaultdict(list)
    try:
        with multiprocessing.Pool(jobs, _start, (setup,)) as pool:
            for test, (outcome, text) in pool.imap_unordered(_do, tests, 4):
                outcomes[outcome].append((test, text))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return account(outcomes)


def account(outcomes):
    for test, text in sorted(outcomes[FAILED]):
        print(f'failed: {test}: {text}')
    reasons = collections.Counter(text for _, text in outcomes[SKIPPED])
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
        print(f'skipped: {count}: {reason}')
    print(', '.join(f'{len(outcomes[outcome])} {outcome}' for outcome in (PASSED, FAILED, SKIPPED)))
    return 1 if outcomes[FAILED] or not outcomes[PASSED] else 0
