r"""Find damaged, altered, duplicated and leaking images of a data set.

    python tools/verify_dataset.py write data/hoss
    python tools/verify_dataset.py check data/hoss
    python tools/verify_dataset.py check data --train LoveDA/Train \
        --test LoveDA/Val --report verified.json

`write` makes ROOT/sha256sums.txt, the checksums of all files; coreutils read
it too: cd ROOT && sha256sum --check --quiet sha256sums.txt. `check` compares
the files with it where there is one, decodes every image whole, and looks
for images that are there twice or in two splits.

Exit status: 0 nothing wrong (there may be warnings), 1 something is wrong,
2 the command cannot be carried out.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

try:
    from osar_plugin.utils.verification import KINDS
except ModuleNotFoundError:
    # Run from a checkout that is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from osar_plugin.utils.verification import KINDS
from osar_plugin.io import atomic_write
from osar_plugin.utils.errors import ConfigError, OSARError
from osar_plugin.utils.progress import progress_bar
from osar_plugin.utils.termination import orderly_termination
from osar_plugin.utils.verification import (
    MANIFEST,
    SPLITS,
    Finding,
    Report,
    record,
    verify,
)
from osar_plugin.utils.verification.manifest import shown

WRONG, USER_ERROR, INTERRUPTED = 1, 2, 130
COLUMNS = ('kind', 'warning', 'path', 'found', 'expected', 'cure')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest='action', required=True)
    write = actions.add_parser(
        'write', help='write the checksums of all files',
        description='Write the checksums of all files, unless one is '
        'damaged.')
    check = actions.add_parser(
        'check', help='look for what is wrong',
        description='Look for what is wrong with the files of a folder.')
    _add_write(write)
    _add_check(check)
    for action in (write, check):
        action.add_argument(
            '--no-decode', action='store_true',
            help='do not decode the images: faster, and finds less')
        action.add_argument(
            '--workers', type=int, metavar='N',
            help='processes (default: one per CPU; 0: none beside this one)')
        action.add_argument(
            '--limit', type=int, default=20, metavar='N',
            help='findings to show of each kind, 0 for all '
            '(default: %(default)s)')
    return parser.parse_args(argv)


def _add_write(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('root', type=Path, help='folder of the data set')
    parser.add_argument(
        '-o', '--out', type=Path, metavar='FILE',
        help=f'manifest to write (default: ROOT/{MANIFEST})')
    parser.add_argument(
        '--force', action='store_true',
        help='replace a manifest that is there')


def _add_check(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('root', type=Path, help='folder of the data set')
    add('--manifest', type=Path, metavar='FILE',
        help=f'manifest to compare with (default: ROOT/{MANIFEST}, if there '
        'is one)')
    for split in SPLITS:
        add(f'--{split}', nargs='+', metavar='DIR',
            help=f'folders of the {split} images; by default the names of '
            'the folders tell' if split == SPLITS[0] else
            f'the same for {split}')
    add('--pixels', action='store_true',
        help='compare images by their pixels: finds copies that were saved '
        'in another lossless format')
    add('--allow', nargs='+', default=[], metavar='KIND', choices=list(KINDS),
        help='what is to be a warning only: ' + ', '.join(KINDS))
    add('--report', type=Path, metavar='FILE',
        help='write all findings to a .json or .csv file')


def check_args(args: argparse.Namespace) -> None:
    """Refuse what can be refused before the work begins."""
    if args.limit < 0:
        raise ConfigError(
            f'--limit {args.limit}: expected a number of findings, or 0 for '
            'all.')
    if args.action == 'write' or args.report is None:
        return
    if args.report.suffix not in ('.json', '.csv'):
        raise ConfigError(
            f'--report {args.report}: expected a name that ends in .json or '
            '.csv.')
    if args.report.resolve().is_relative_to(args.root.resolve()):
        raise ConfigError(
            f'--report {args.report} lies in the data set, where it would be '
            'a file too many next time. Give another folder.')


def run(args: argparse.Namespace) -> Report:
    """Do what was asked for."""
    common = dict(decode=not args.no_decode, workers=args.workers)
    if args.action == 'write':
        with progress_bar('reading') as show:
            return record(
                args.root, args.out, force=args.force, progress=show,
                **common)
    splits = {
        split: getattr(args, split) for split in SPLITS
        if getattr(args, split)}
    with progress_bar('checking') as show:
        return verify(
            args.root, args.manifest, pixels=args.pixels, splits=splits,
            allow=args.allow, progress=show, **common)


def show_counts(report: Report) -> None:
    """A table of what was looked for, with the number of findings."""
    table = Table(box=None, pad_edge=False)
    for name in ('looked for', 'found', 'meaning'):
        table.add_column(name, justify='right' if name == 'found' else 'left')
    for kind, number in report.counts().items():
        needs = KINDS[kind].needs
        skipped = (
            (needs == 'manifest' and report.manifest is None)
            or (needs == 'decode' and not report.decoded))
        table.add_row(
            kind, '-' if skipped else str(number),
            KINDS[kind].meaning + (
                '; not looked for' if skipped else ''),
            style='bold' if number else None)
    Console(highlight=False).print(table)


def show_findings(report: Report, limit: int) -> None:
    """The findings of each kind, with what to do."""
    for kind, group in groupby(report.findings, lambda item: item.kind):
        findings = list(group)
        name = f'{kind} (warning)' if findings[0].warning else kind
        sys.stdout.write(f'\n{name}: {KINDS[kind].cure}\n')
        for finding in findings[:limit or None]:
            sys.stdout.write(f'  {_line(finding)}\n')
        more = len(findings) - limit
        if limit and more > 0:
            sys.stdout.write(
                f'  and {more} more; --limit 0 shows all of them\n')


def _line(finding: Finding) -> str:
    text = f'{shown(finding.path)}: {finding.found}'
    if finding.expected:
        text += f'; expected {finding.expected}'
    return text


def describe(report: Report) -> str:
    """What was looked at, in one or two lines."""
    images = f'{report.images} images'
    if report.splits.keys() - {''}:
        images += ' (' + ', '.join(
            f'{number} {split or "in no split"}'
            for split, number in report.splits.items()) + (
                f', {report.labels} label maps' if report.labels else ''
            ) + ')'
    return (
        f'{shown(report.root)}: {report.files} files, '
        f'{report.size / 1e6:.1f} MB, {images}')


def write_report(report: Report, path: Path) -> None:
    """All findings as JSON or CSV."""
    content = report.as_dict()
    try:
        with atomic_write(path) as file:
            if path.suffix == '.json':
                json.dump(content, file, indent=2)
                file.write('\n')
                return
            writer = csv.DictWriter(file, COLUMNS, extrasaction='ignore')
            writer.writeheader()
            writer.writerows(content['findings'])
    except OSError as error:
        raise ConfigError(
            f'--report {path}: cannot be written ({error.strerror}). Give '
            'another place.') from error


def conclude(args: argparse.Namespace, report: Report) -> str:
    """The last line."""
    wrong = sum(not finding.warning for finding in report.findings)
    warnings = len(report.findings) - wrong
    if args.action == 'write':
        if report.manifest is None:
            return (
                f'{_number(wrong, "problem")}, and no manifest written: it '
                'would vouch for damaged files')
        return f'{report.files} checksums written to {shown(report.manifest)}'
    text = _number(wrong, 'problem') if wrong else 'nothing wrong'
    if warnings:
        text += f', {_number(warnings, "warning")}'
    if report.manifest is None:
        return (
            f'{text}; contents not compared, for there is no {MANIFEST} '
            '(see the action write)')
    return f'{text}; contents compared with {shown(report.manifest)}'


def _number(count: int, noun: str) -> str:
    return f'{count} {noun}' + ('s' if count != 1 else '')


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    args = parse_args(argv)
    try:
        check_args(args)
        with orderly_termination():
            report = run(args)
            if args.action == 'check' and args.report is not None:
                write_report(report, args.report)
    except OSARError as error:
        sys.stderr.write(f'error: {error}\n')
        return USER_ERROR
    except KeyboardInterrupt:
        sys.stderr.write('stopped; nothing was written\n')
        return INTERRUPTED
    sys.stdout.write(f'{describe(report)}\n')
    if args.action == 'check':
        sys.stdout.write('\n')
        show_counts(report)
    show_findings(report, args.limit)
    sys.stdout.write(f'\n{conclude(args, report)}\n')
    return 0 if report.ok else WRONG


if __name__ == '__main__':
    raise SystemExit(main())
