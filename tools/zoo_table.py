"""The list of all configs in configs/README.md, from configs/metafile.yml.

    python tools/zoo_table.py            # prints it
    python tools/zoo_table.py --write    # puts it into configs/README.md

Figures and weights are those of the metafile, the description is the first
sentence of the config's own header.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from osar_plugin.io import atomic_write
from osar_plugin.utils import launch
from osar_plugin.utils.errors import DataFormatError

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
BEGIN = '<!-- begin: made by tools/zoo_table.py from metafile.yml -->'
END = '<!-- end: made by tools/zoo_table.py -->'
HEAD = ('| config | what | starts from | paper | measured here |\n'
        '| --- | --- | --- | --- | --- |')
TITLES = {
    '': 'Published systems', 'ablation/': 'Ablations',
    'demo/': 'The demo world', 'examples/': 'Stock configs with our parts'}


def summary(header: str) -> str:
    """The first sentence of a config's header.

    Args:
        header: The file's text, which begins with a comment.
    """
    lines = []
    for line in header.splitlines():
        text = line.removeprefix('#')
        # Commands stand under their sentence, further in.
        if text == line or text.startswith('  '):
            break
        lines.append(text.strip())
    words = ' '.join(lines)
    return re.split(r'\. |[.:]$', words, maxsplit=1)[0]


def figures(by_dataset: Mapping[str, Mapping[str, float]],
            trained_on: str) -> str:
    """Figures in one cell.

    Args:
        by_dataset: Metric to value by data set.
        trained_on: The data set that goes without saying.
    """
    parts = []
    for dataset, metrics in by_dataset.items():
        text = ', '.join(f'{name} {value}' for name, value in metrics.items())
        parts.append(text if dataset == trained_on else f'{dataset}: {text}')
    return '; '.join(parts)


def starts(metadata: Mapping[str, Any]) -> str:
    """Files that a config names, and keys under which it expects some."""
    files = [f'`{file.removeprefix("weights/")}`'
             for file in metadata.get('Starts From', ())]
    return ', '.join([*files, *(
        f'`{key}=FILE`' for key in metadata.get('Files To Name', ()))])


def row(entry: Mapping[str, Any]) -> str:
    """The line of one config."""
    path = entry['Config'].removeprefix('configs/')
    text = (CONFIGS / path).read_text(encoding='utf-8')
    metadata = entry['Metadata']
    trained_on = metadata['Training Data']
    paper = metadata.get('Paper Figures', {})
    ours = {one['Dataset']: one['Metrics']
            for one in entry.get('Results', ())}
    cells = (f'`{path}`', summary(text), starts(metadata),
             figures(paper, trained_on), figures(ours, trained_on))
    return f'| {" | ".join(cells)} |'


def tables(entries: Iterable[Mapping[str, Any]]) -> str:
    """One table for each folder, sorted by file."""
    folders: dict[str, list[str]] = {folder: [] for folder in TITLES}
    for entry in sorted(entries, key=lambda entry: entry['Config']):
        path = entry['Config'].removeprefix('configs/')
        folders[path[:path.rfind('/') + 1]].append(row(entry))
    return '\n\n'.join(
        '\n'.join([f'### {TITLES[folder]}', '', HEAD, *rows])
        for folder, rows in folders.items())


def placed(page: str, made: str) -> str:
    """A page with the list between its two marks.

    Raises:
        DataFormatError: If the page lacks a mark.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise DataFormatError(
            f'configs/README.md: expected the lines {BEGIN!r} and {END!r}, '
            'in this order; put them where the list of configs is to stand.')
    return f'{before}{BEGIN}\n\n{made}\n\n{END}{after}'


def main() -> None:
    """Print the list or write it."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--write', action='store_true', help='change configs/README.md')
    args = parser.parse_args()
    metafile = (CONFIGS / 'metafile.yml').read_text(encoding='utf-8')
    made = tables(yaml.safe_load(metafile)['Models'])
    if not args.write:
        sys.stdout.write(f'{made}\n')
        return
    path = CONFIGS / 'README.md'
    page = placed(path.read_text(encoding='utf-8'), made)
    with atomic_write(path) as file:
        file.write(page)


if __name__ == '__main__':
    launch.run(main)
