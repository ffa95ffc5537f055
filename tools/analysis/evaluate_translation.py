r"""How good a translator is, beside two baselines and real SAR.

    python tools/analysis/evaluate_translation.py configs/bbdm_hoss.py \
        bbdm_hoss.pth --data-root data/hoss --preset fast --out results \
        --reid-config configs/sdfnet_hoss.py --reid-weights sdfnet.pth

Every optical image of the split is translated once and compared with every
SAR image of its ship or patch. Beside the translator stand the optical image
turned grey, the mean of all SAR chips of the training split, and, where a
ship has several, its other real SAR chips: what a perfect translator could
reach. With a re-identification model, also retrieval with generated SAR in
place of the optical chips: G2S beside O2S, S2G beside S2O.

A translator that was trained on ships lit from one side
(osar_plugin.PairFlip(bright_side=...)) is asked for that side: where the
radar stood on the other, both images of the pair are mirrored, and its views
are those of the mirrored optical image. That holds for what stands beside it,
too.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from osar_plugin.apis import OpticalToSARInferencer, ShipReIDInferencer
from osar_plugin.datasets.transforms import PairFlip, ShipSize
from osar_plugin.evaluation.ranking import RankingResult, prepare_features
from osar_plugin.evaluation.translation import (
    MeanImage,
    SpeckleStatistics,
    evaluate_replacement,
    grey,
    score_views,
    summarise,
)
from osar_plugin.io import atomic_write, read_optical
from osar_plugin.registry import DATASETS
from osar_plugin.utils import launch
from osar_plugin.utils.errors import ConfigError

TRANSLATOR, GREY, MEAN, OTHER = (
    'translator', 'optical, grey', 'mean of all SAR', 'another real SAR')
# Figure and head of its column.
COLUMNS = {
    'ms_ssim': 'ms-ssim', 'gradient': 'edges', 'scatterers': 'echoes',
    'structure': 'structure', 'structure_best': 'best',
    'structure_worst': 'worst', 'looks_ratio': 'looks', 'wasserstein': 'W1'}
FIGURES = ('mAP', 'R1', 'R5', 'R10')


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', help='config file of the translator')
    add('checkpoint', help='weights of the translator')
    add('--data-root', help="folder of the data set; default: the config's")
    add('--split', default='test',
        help='split to evaluate (default: %(default)s; of aligned pairs '
        'val, or all)')
    add('--limit', type=int, help='optical images at most, evenly spread')
    add('--preset', choices=('official', 'fast'),
        help="sampler settings; default: the config's")
    add('--views', type=int, help='views of each image')
    add('--steps', type=int, help='steps of the sampler')
    add('--spacing', choices=('linear', 'cosine', 'full'),
        help='how they lie')
    add('--eta', type=float, help='factor of the noise')
    add('--batch-size', type=int, default=8)
    add('--amp', choices=('auto', 'on', 'off'), default='auto')
    add('--device', help="e.g. cpu, cuda:0; default: MMEngine's choice")
    add('--reid-config', help='config file of a re-identification model')
    add('--reid-weights', help='its weights')
    add('--out', metavar='DIR',
        help='folder for translation.json and translation.csv')
    return parser.parse_args()


class Pairs:
    """Optical images and the SAR images of the same ship or patch.

    Args:
        dataset: Config of a data set of pairs.
        data_root: In place of its own.
        split: See the data set.

    Attributes:
        partners: SAR files of each optical one.
        pids: Identity of each file.
    """

    def __init__(self, dataset: Mapping[str, Any], data_root: str | None,
                 split: str) -> None:
        cfg = dict(dataset, pipeline=[], split=split)
        if data_root:
            cfg['data_root'] = data_root
        if cfg.get('pairing'):
            cfg['pairing'] = 'all'
        built: Any = DATASETS.build(cfg)
        self.partners: dict[str, list[str]] = {}
        self.pids: dict[str, int] = {}
        for row in map(built.get_data_info, range(len(built))):
            optical, sar = row['optical_path'], row['sar_path']
            self.partners.setdefault(optical, []).append(sar)
            self.pids[optical] = self.pids[sar] = row['pid']

    @property
    def sar(self) -> list[str]:
        """All SAR files, once each."""
        return list(dict.fromkeys(
            path for paths in self.partners.values() for path in paths))

    def keep(self, limit: int | None) -> None:
        """Keep so many optical images, evenly spread."""
        from osar_plugin.visualization.reid import spread

        paths = list(self.partners)
        if limit is not None:
            paths = [paths[i] for i in spread(len(paths), limit)]
        self.partners = {path: self.partners[path] for path in paths}


def find_pairs(cfg: Any, args: argparse.Namespace) -> tuple[Pairs, Pairs]:
    """Pairs to evaluate, and those whose SAR images make the mean.

    Raises:
        ConfigError: If the config has no data set of pairs, or the limit
            leaves nothing.
    """
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    name = str(dataset.get('type', '')).rpartition('.')[2]
    if name not in ('HOSSPairs', 'AlignedPairs'):
        raise ConfigError(
            f'{cfg.filename}: train_dataloader.dataset is {name or "not set"}'
            '; a data set of pairs is needed, HOSSPairs or AlignedPairs.')
    if args.limit is not None and args.limit < 1:
        raise ConfigError(f'--limit {args.limit}: expected 1 or more.')
    split, rest = args.split, 'train'
    if name == 'AlignedPairs' and split == 'test':
        held = bool(dataset.get('val_pairs'))
        split, rest = ('val', 'train') if held else ('all', 'all')
    pairs = Pairs(dataset, args.data_root, split)
    pairs.keep(args.limit)
    return pairs, Pairs(dataset, args.data_root, rest)


class Reader:
    """Reads images as the network sees them.

    Args:
        transforms: Of the translator.
        bright_side: The side from which ships are lit; None if it is open.
    """

    def __init__(self, transforms: Sequence[Any],
                 bright_side: str | None = None) -> None:
        self.transforms = transforms
        self.flip = PairFlip(bright_side=bright_side) if bright_side else None
        self._cache: dict[str, tuple[Tensor, bool]] = {}

    def sar(self, path: str) -> Tensor:
        """(H, W) float32, 0..255; mirrored where :meth:`mirrored` says."""
        return self._read(path)[0]

    def mirrored(self, path: str) -> bool:
        """Whether a SAR image is lit from the other side."""
        return self._read(path)[1]

    def _read(self, path: str) -> tuple[Tensor, bool]:
        if path not in self._cache:
            results: dict[str, Any] = dict(img_path=path, modality=1)
            for transform in self.transforms:
                results = transform(results)
            flip = False
            if self.flip is not None:
                pair = self.flip(dict(optical=results, sar=dict(results)))
                results, flip = pair['sar'], pair['flip']
            self._cache[path] = (
                torch.tensor(results['img']).float().mean(-1), flip)
        return self._cache[path]

    def grey(self, optical: np.ndarray) -> Tensor:
        """(H, W) float32 of an RGB image that was read already."""
        resized = self.transforms[-1](dict(img=optical))['img']
        return grey(torch.tensor(resized).permute(2, 0, 1))


class Evaluation:
    """Collects the figures of every method.

    Args:
        pairs: What is compared.
        reader: Reads real SAR.
        mean: The mean of all SAR chips.
    """

    def __init__(self, pairs: Pairs, reader: Reader, mean: Tensor) -> None:
        self.pairs, self.reader, self.mean = pairs, reader, mean
        self.scores: dict[str, list[Any]] = {
            name: [] for name in (TRANSLATOR, GREY, MEAN, OTHER)}
        self.statistics = {
            name: SpeckleStatistics() for name in self.scores}
        self.rows: list[tuple[Any, ...]] = []

    def add(self, path: str, optical: np.ndarray, views: Tensor,
            mirrored: bool = False) -> None:
        """Compare an image's views, and what stands beside them.

        Args:
            path: The optical file.
            optical: Its pixels, or those of its mirror image.
            views: (K, H, W), 0..255.
            mirrored: Which of the two: the SAR images to compare with are
                mirrored likewise.
        """
        methods = {TRANSLATOR: views,
                   GREY: self.reader.grey(optical)[None],
                   MEAN: self.mean[None]}
        partners = [
            other for other in self.pairs.partners[path]
            if self.reader.mirrored(other) == mirrored]
        for name, images in methods.items():
            self.statistics[name].add('generated', images)
            for other in partners:
                self._score(name, path, other, images)
        for one in partners:
            rest = [self.reader.sar(x) for x in partners if x != one]
            if rest:
                self._score(OTHER, path, one, torch.stack(rest))

    def _score(self, name: str, path: str, other: str,
               images: Tensor) -> None:
        scores = score_views(images, self.reader.sar(other))
        self.scores[name].append(scores)
        self.rows.append((name, path, other, *(
            scores[key][kind] for key in scores
            for kind in ('mean', 'best', 'worst'))))

    def summary(self) -> dict[str, dict[str, float]]:
        """Figures of each method that has any."""
        real = [self.reader.sar(path)[None] for path in self.pairs.sar]
        out = {}
        for name, scores in self.scores.items():
            if not scores:
                continue
            statistics = self.statistics[name]
            for image in real:
                statistics.add('real', image)
                if name == OTHER:
                    statistics.add('generated', image)
            out[name] = {**summarise(scores), **statistics.summary()}
        return out


def features_of(inferencer: Any, views: Sequence[np.ndarray],
                batch_size: int) -> Tensor:
    """Features (N, D) of the views of N images, encoded as SAR.

    Of each image the mean of its views' normalised features. A view has the
    pixels of its optical image, and so that image's metres per pixel.

    Args:
        inferencer: Of a re-identification model.
        views: N of (K, H, W) uint8.
        batch_size: Images in one run of the model.
    """
    sizes = [t.gsd[0] for t in inferencer.pipeline.transforms
             if isinstance(t, ShipSize)]
    flat = [view for image in views for view in image]
    described = inferencer.encode(
        flat, 'sar', sizes[0] if sizes else None, batch_size)
    normalised = prepare_features(described.features)
    return normalised.unflatten(0, (len(views), -1)).mean(1)


def retrieval(args: argparse.Namespace, pairs: Pairs,
              views: Mapping[str, np.ndarray]) -> dict[str, RankingResult]:
    """Retrieval with generated SAR in place of optical chips."""
    inferencer = ShipReIDInferencer(
        args.reid_config, args.reid_weights, args.device)
    optical, sar = list(views), pairs.sar
    features = [
        inferencer.encode(paths, kind, batch_size=args.batch_size).features
        for paths, kind in ((optical, 'optical'), (sar, 'sar'))]
    generated = features_of(
        inferencer, list(views.values()), args.batch_size)
    return evaluate_replacement(
        features[0], generated, features[1],
        *(torch.tensor([pairs.pids[path] for path in paths])
          for paths in (optical, sar)))


class _Images(Sequence):
    """Optical files, or the pixels of their mirror images, when asked."""

    def __init__(self, tasks: Sequence[tuple[str, bool]]) -> None:
        self.tasks = tasks

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: Any) -> Any:
        path, mirrored = self.tasks[index]
        if not mirrored:
            return path
        return np.ascontiguousarray(read_optical(path)[:, ::-1])


def bright_side(cfg: Any) -> str | None:
    """From which side ships are lit in the training of a translator."""
    pipeline = cfg.train_dataloader.dataset.get('pipeline') or ()
    return next((
        step.bright_side for step in pipeline
        if str(step.get('type')).endswith('PairFlip')
        and step.get('bright_side')), None)


def translate(inferencer: Any, pairs: Pairs, evaluation: Evaluation,
              batch_size: int) -> dict[str, np.ndarray]:
    """Translate and compare; gives the views at the size of each image."""
    import mmcv

    # Mirror images behind: the memory holds few of them at a time.
    tasks = [(path, False) for path in pairs.partners] + [
        (path, True) for path, partners in pairs.partners.items()
        if any(map(evaluation.reader.mirrored, partners))]
    views = {}
    results = inferencer.stream(
        _Images(tasks), batch_size, 'optical', keep_size=False)
    for row, result in track(
            results, 'Translating', len(tasks), console=Console(stderr=True),
            disable=not sys.stderr.isatty()):
        path, mirrored = tasks[row]
        evaluation.add(
            path, result.optical, torch.tensor(result.views), mirrored)
        if mirrored:
            continue
        size = result.optical.shape[1::-1]
        views[path] = np.stack([
            mmcv.imresize(view, size, backend='pillow')
            for view in result.views])
    return views


def tables(summary: Mapping[str, Mapping[str, float]],
           ranking: Mapping[str, RankingResult]) -> list[Table]:
    """The figures for a terminal."""
    structure = Table(title=(
        'Against real SAR. Structure: the mean of the three scores before '
        'it, of all views, the best and the worst of each image.\nLooks: '
        'ratio to real, 1 is right. W1: of amplitude histograms, in grey '
        'levels'))
    structure.add_column('method', no_wrap=True)
    for head in COLUMNS.values():
        structure.add_column(head, justify='right')
    for name, figures in summary.items():
        structure.add_row(
            name, *(f'{figures[key]:.3f}' for key in COLUMNS))
    if not ranking:
        return [structure]
    found = Table(title='Retrieval, percent (G: generated SAR in place of '
                  'the optical chip)')
    for name in ('protocol', *FIGURES, 'queries', 'gallery'):
        found.add_column(name, justify='left' if name == 'protocol'
                         else 'right')
    for name, result in ranking.items():
        values = result.summary()
        found.add_row(name, *(f'{values[key]:.2f}' for key in FIGURES),
                      str(result.num_valid), str(result.num_gallery))
    return [structure, found]


def write(folder: Path, content: Mapping[str, Any],
          rows: Sequence[tuple[Any, ...]]) -> None:
    """Everything as JSON, the comparisons one by one as CSV."""
    from osar_plugin.evaluation.translation import SCORES

    with atomic_write(folder / 'translation.json') as file:
        json.dump(_plain(content), file, indent=2)
        file.write('\n')
    with atomic_write(folder / 'translation.csv') as file:
        writer = csv.writer(file)
        writer.writerow(('method', 'optical', 'sar', *(
            f'{name}{kind}' for name in SCORES
            for kind in ('', '_best', '_worst'))))
        writer.writerows(
            (*row[:3], *(f'{value:.6f}' for value in row[3:]))
            for row in rows)


def _plain(content: Any) -> Any:
    """NaN and infinity become null, which JSON has."""
    if isinstance(content, Mapping):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def main() -> None:
    """Evaluate."""
    args = parse_args()
    if bool(args.reid_config) != bool(args.reid_weights):
        raise ConfigError(
            '--reid-config and --reid-weights are given together: the '
            'figures of a model that is not trained mean nothing.')
    settings = {name: getattr(args, name)
                for name in ('views', 'steps', 'spacing', 'eta')
                if getattr(args, name) is not None}
    inferencer = OpticalToSARInferencer(
        args.config, args.checkpoint, args.device,
        'auto' if args.amp == 'auto' else args.amp == 'on', args.preset,
        **settings)
    pairs, training = find_pairs(inferencer.cfg, args)
    side = bright_side(inferencer.cfg)
    reader = Reader(inferencer.transforms, side)
    mean = MeanImage()
    # A reader of its own, whose cache ends with it.
    mean.add(map(Reader(inferencer.transforms, side).sar, training.sar))
    evaluation = Evaluation(pairs, reader, mean.value)
    views = translate(inferencer, pairs, evaluation, args.batch_size)
    summary = evaluation.summary()
    ranking = retrieval(args, pairs, views) if args.reid_config else {}
    console = Console(width=110)
    for table in tables(summary, ranking):
        console.print(table)
    if args.out:
        chosen = inferencer.settings
        write(Path(args.out), dict(
            images=len(pairs.partners), pairs=len(
                evaluation.scores[TRANSLATOR]),
            sar=len(pairs.sar), views=chosen.views, steps=chosen.steps,
            eta=chosen.eta, methods=summary,
            retrieval={name: result.summary()
                       for name, result in ranking.items()}),
            evaluation.rows)
        console.print(f'{args.out}/translation.json and .csv')


if __name__ == '__main__':
    launch.run(main)
