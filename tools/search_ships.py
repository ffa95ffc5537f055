r"""Find the ships of some images in a folder of others.

    python tools/search_ships.py --query 0002_s01c1_RGB.tif --gallery chips/ \
        --config configs/sdfnet_hoss.py --weights sdfnet.pth

Writes ranked_list.png and ranked_list.csv. The gallery is described once;
later searches take what is in the index and describe new images only.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from osar_plugin.utils import launch
from osar_plugin.utils.errors import ConfigError

COLUMNS = ('query', 'rank', 'path', 'distance', 'modality', 'identity',
           'correct')
MODALITIES = ('auto', 'optical', 'sar')


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--query', nargs='+', required=True, metavar='FILE|DIR',
        help='images to search for')
    add('--gallery', required=True, metavar='DIR',
        help='folder to search in, with its sub-folders')
    add('--config', required=True, help='config file of the model')
    add('--weights', required=True, help='checkpoint of the model')
    for flag, what in (('--modality', 'queries'),
                       ('--gallery-modality', 'gallery')):
        add(flag, choices=MODALITIES, default='auto',
            help=f'sensor of the {what}; auto: by the end of the file name '
            '(_RGB, _SAR), else by the channels: one, or three equal ones, '
            'is SAR')
    add('--target', choices=('all', 'optical', 'sar'), default='all',
        help='search images of this sensor only')
    add('--topk', type=int, default=10, help='hits for each query')
    add('--out', default='work_dirs/search', metavar='DIR',
        help='folder for ranked_list.png and .csv (default: %(default)s)')
    add('--index', metavar='DIR',
        help='folder of the gallery index; default: one for each gallery and '
        'model, in work_dirs/index')
    add('--rebuild', action='store_true', help='build the index anew')
    add('--checksum', action='store_true',
        help='recognise gallery images by content, not by time')
    add('--skip-broken', action='store_true',
        help='leave unreadable gallery images out and name them')
    add('--gsd', type=float, nargs='+', metavar='METRES',
        help='metres per pixel: one number, or optical and SAR; default: '
        "the config's, 0.75 and 1")
    add('--keep-self', action='store_true',
        help="do not leave the query's own file out of its list")
    add('--method', choices=('auto', 'exact', 'faiss'), default='auto',
        help='auto: faiss for large galleries, where it is installed')
    add('--max-rows', type=int, default=12,
        help='queries in the picture, evenly spread; the CSV has all')
    add('--batch-size', type=int, default=32)
    add('--device', help="e.g. cpu, cuda:0; default: MMEngine's choice")
    return parser.parse_args()


def check_args(args: argparse.Namespace) -> None:
    """Refuse what can be refused before the model is built."""
    if args.topk < 1 or args.max_rows < 1 or args.batch_size < 1:
        raise ConfigError(
            f'--topk {args.topk}, --max-rows {args.max_rows}, --batch-size '
            f'{args.batch_size}: expected 1 or more.')
    out, gallery = Path(args.out).resolve(), Path(args.gallery).resolve()
    if out.is_relative_to(gallery):
        raise ConfigError(
            f'--out {args.out} lies in the gallery: the picture would be '
            'searched as a ship next time. Give another folder.')


def default_index(gallery: str, fingerprint: str) -> Path:
    """A folder of its own for each gallery and model."""
    path = Path(gallery).resolve()
    key = hashlib.sha256(f'{path}\n{fingerprint}'.encode()).hexdigest()
    return Path('work_dirs', 'index', f'{path.name}-{key[:12]}')


def write_csv(lists: Sequence[Any], path: Path) -> None:
    """One line per hit."""
    from osar_plugin.io import atomic_write

    with atomic_write(path) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for ranked in lists:
            for hit in ranked.hits:
                chip = hit.chip
                writer.writerow((
                    ranked.query.path, hit.rank, chip.path,
                    f'{hit.distance:.6f}', MODALITIES[1 + chip.modality],
                    '' if chip.pid is None else chip.pid,
                    answer(hit.correct)))


def answer(correct: bool | None) -> str:
    """Words for the CSV and the table."""
    return 'unknown' if correct is None else 'yes' if correct else 'no'


def draw(lists: Sequence[Any], inferencer: Any, args: argparse.Namespace,
         searched: int) -> Any:
    """The picture of some of the lists."""
    from osar_plugin.apis.search import count_right
    from osar_plugin.visualization.reid import (
        Chip,
        ChipReader,
        Hit,
        RankedRow,
        draw_ranked_list,
        spread,
    )

    read = ChipReader(inferencer.pipeline.transforms)

    def show(chip: Any) -> dict[str, Any]:
        return dict(
            image=read(chip.path, chip.modality), modality=chip.modality,
            title=chip.title, pid=chip.pid)

    rows = []
    for i in spread(len(lists), args.max_rows):
        ranked = lists[i]
        hits = [
            Hit(**show(hit.chip), distance=hit.distance, correct=hit.correct)
            for hit in ranked.hits]
        rows.append(RankedRow(Chip(**show(ranked.query)), hits))
    right, known = count_right(lists)
    shown = f'{len(rows)} of ' if len(rows) < len(lists) else ''
    parts = [
        shown + (f'{len(lists)} queries' if len(lists) > 1 else '1 query'),
        f'{searched} images searched']
    if known:
        parts.append(f'first hit right for {right} of {known}')
    parts.append('d: squared distance of unit features, 0 to 4')
    target = dict(all='any sensor', optical='optical', sar='SAR')
    return draw_ranked_list(
        rows, f'{type(inferencer.model).__name__}  ·  ships in '
        f'{Path(args.gallery).resolve().name}, {target[args.target]}',
        '  ·  '.join(parts))


def table(lists: Sequence[Any], gallery: str, queries: int = 5,
          hits: int = 5) -> str:
    """The first lists as text, images relative to the gallery."""
    lines: list[str] = []
    for ranked in lists[:queries]:
        lines.append(f'\n{ranked.query.path}')
        lines += [
            f'{hit.rank:5d}  {hit.distance:.4f}  '
            f'{MODALITIES[1 + hit.chip.modality]:7}  '
            f'{answer(hit.correct):7}  '
            f'{os.path.relpath(hit.chip.path, gallery)}'
            for hit in ranked.hits[:hits]]
    if len(lists) > queries:
        lines.append(f'\n... and {len(lists) - queries} queries more')
    return '\n'.join(['rank  distance sensor  right    image', *lines])


def open_index(args: argparse.Namespace, inferencer: Any) -> Any:
    """The index of the gallery, empty if it is to be built anew."""
    from osar_plugin.apis.gallery import GalleryIndex

    folder = Path(args.index) if args.index else default_index(
        args.gallery, inferencer.fingerprint(args.gsd))
    index = GalleryIndex(folder, inferencer, args.gsd)
    if args.rebuild:
        index.clear()
    return index


def main() -> None:
    """Search."""
    args = parse_args()
    check_args(args)
    # Imported here: help and wrong flags need no torch.
    from osar_plugin.apis.reid import ShipReIDInferencer, list_chips
    from osar_plugin.apis.search import TARGETS
    from osar_plugin.visualization.reid import write_png

    # Missing images are told before a model of some hundred megabytes loads.
    list_chips(args.gallery)
    inferencer = ShipReIDInferencer(args.config, args.weights, args.device)
    queries = inferencer.encode(
        args.query, args.modality, args.gsd, args.batch_size)
    index = open_index(args, inferencer)
    gallery = index.update(
        args.gallery, args.gallery_modality, args.batch_size, args.checksum,
        args.skip_broken)
    lists = inferencer.search(
        queries, gallery, args.topk, args.target,
        exclude_self=not args.keep_self, method=args.method)
    wanted = TARGETS[args.target]
    searched = sum(wanted in (None, chip.modality) for chip in gallery.chips)
    out = Path(args.out)
    write_csv(lists, out / 'ranked_list.csv')
    write_png(draw(lists, inferencer, args, searched),
              out / 'ranked_list.png')
    sys.stdout.write(f'gallery: {index.report} ({index.folder})\n')
    for name, reason in index.report.broken.items():
        sys.stdout.write(f'left out: {name}: {reason}\n')
    sys.stdout.write(
        f'{table(lists, args.gallery)}\n\n{out / "ranked_list.png"}\n'
        f'{out / "ranked_list.csv"}\n')


if __name__ == '__main__':
    launch.run(main)
