r"""Look at what a pre-trained encoder has learned.

    python tools/analysis/analyse_pretraining.py \
        configs/demo/codemae_ospretrain.py work_dirs/codemae_ospretrain \
        --data-root data/demo/OSPretrain --out figures \
        --gsd DemoMetre=1 DemoThree=3 DemoTen=10

Each figure is a PNG with its numbers as CSV beside it:

    spectrum         singular values and effective rank of the features
    alignment        cosine of corresponding patch tokens, against their SSIM
    scales           SSIM of optical and SAR images, against pixel size
    gap              map of both sensors' features (PCA), pairs joined
    umap             the same with UMAP, where umap-learn is installed
    reconstruction   masked images, rebuilt, and predicted for the other
                     sensor

The data set is that of the config's training (SEN1-2: use a config with
osar_plugin.SEN12), its pairs only, evenly spread. Give --cfg-options to
change it, e.g. to look at what was held out:
train_dataloader.dataset.lists="['test']" train_dataloader.dataset.drop_test=[]
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import DictAction
from mmengine.dataset import default_collate
from mmengine.logging import print_log
from torch import Tensor

from osar_plugin.apis.pretraining import FrozenEncoder, pairs_of
from osar_plugin.compat import require
from osar_plugin.datasets.pair_base import PretrainPairs
from osar_plugin.datasets.transforms.pretrain_pairs import (
    as_optical,
    as_sar,
    decode_8bit,
)
from osar_plugin.evaluation import pretraining as figures
from osar_plugin.evaluation.linear_probe import pool_tokens
from osar_plugin.io import atomic_write
from osar_plugin.models.pretraining.targets import (
    describe,
    grey,
    patchify,
    unpatchify,
)
from osar_plugin.utils import launch
from osar_plugin.utils.config import load_config
from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
    MissingDependencyError,
)
from osar_plugin.utils.work_dir import checkpoint_file
from osar_plugin.visualization import pretraining as drawing
from osar_plugin.visualization.reid import spread, write_png

FIGURES = (
    'spectrum', 'alignment', 'scales', 'gap', 'umap', 'reconstruction')
SENSORS = ('rgb', 'sar')
PATCH = 16


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', help='config of the pre-training')
    add('checkpoint', help='its weights, or its work dir; "untrained" for '
        'none')
    add('--data-root', help="folder of the pairs; default: the config's")
    add('--out', required=True, metavar='DIR', help='folder of the figures')
    add('--figures', nargs='+', choices=FIGURES,
        help='default: all that can be drawn')
    add('--limit', type=int, default=512, help='pairs at most')
    add('--panels', type=int, default=4,
        help='pairs in the reconstruction (default: %(default)s)')
    add('--gsd', nargs='+', default=[], metavar='[SOURCE=]METRES',
        help='size of the pixels, of all or of single sources; without it '
        'scales counts in pixels of the files')
    add('--levels', type=int, default=5, help='pixel sizes of scales')
    add('--batch-size', type=int, default=32)
    add('--seed', type=int, default=0, help='of the masking')
    add('--device', help="default: MMEngine's choice")
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def parse_gsd(words: Sequence[str]) -> dict[str, float]:
    """Pixel sizes by source, '' for all others.

    Raises:
        ConfigError: If a word is no size.
    """
    out: dict[str, float] = {}
    for word in words:
        name, _, text = word.rpartition('=')
        try:
            value = float(text)
        except ValueError as error:
            raise ConfigError(
                f'--gsd {word!r}: expected metres, or SOURCE=metres.'
            ) from error
        require_range(0, 1e6, without=(0, ), gsd=value)
        out[name] = value
    return out


class Pairs:
    """The pairs to look at.

    Args:
        dataset: All of them.
        limit: How many, evenly spread.

    Raises:
        DatasetNotFoundError: If none is paired.
    """

    def __init__(self, dataset: PretrainPairs, limit: int) -> None:
        paired = np.flatnonzero(dataset.pair_table()).tolist()
        if not paired:
            raise DatasetNotFoundError(
                f'{dataset.data_root}: {len(dataset)} rows, but no pair of '
                'one ground among them. Use a source of pairs.')
        self.dataset = dataset
        self.rows = [paired[i] for i in spread(len(paired), limit)]

    def batch(self, rows: Sequence[int]) -> Any:
        """Collated samples of some rows."""
        return default_collate([self.dataset[row] for row in rows])

    def batches(self, size: int) -> Iterable[Any]:
        """All samples in batches."""
        for start in range(0, len(self.rows), size):
            yield self.batch(self.rows[start:start + size])


class Collected:
    """What one pass over the pairs gives.

    Args:
        encoder: The encoder.
        pairs: The pairs.
        batch_size: Pairs at once.

    Attributes:
        features: (K, D) by sensor.
        cosine: (K, L) of corresponding tokens.
        ssim: (K, L) of their patches.
    """

    def __init__(self, encoder: FrozenEncoder, pairs: Pairs,
                 batch_size: int) -> None:
        parts: dict[str, list[Tensor]] = {
            name: [] for name in (*SENSORS, 'cosine', 'ssim')}
        for batch in pairs.batches(batch_size):
            inputs = encoder.model.data_preprocessor(batch)['inputs']
            tokens = {name: encoder.tokens(inputs[name], name)
                      for name in SENSORS}
            for name in SENSORS:
                parts[name].append(pool_tokens(tokens[name]).cpu())
            parts['cosine'].append(figures.patch_alignment(
                tokens['rgb'], tokens['sar']).cpu())
            parts['ssim'].append(figures.patch_ssim(
                grey(inputs['rgb01'], 'rgb')[:, 0],
                grey(inputs['sar01'], 'sar')[:, 0], PATCH).cpu())
        whole = {name: torch.cat(values) for name, values in parts.items()}
        self.features = {name: whole[name] for name in SENSORS}
        self.cosine, self.ssim = whole['cosine'], whole['ssim']


class Sheets:
    """Draws the figures into a folder.

    Args:
        args: The command line.
        encoder: The encoder.
        pairs: The pairs.

    Attributes:
        summary: Single numbers, for ``summary.json``.
    """

    def __init__(self, args: argparse.Namespace, encoder: FrozenEncoder,
                 pairs: Pairs) -> None:
        self.args, self.encoder, self.pairs = args, encoder, pairs
        self.out = Path(args.out)
        self.summary: dict[str, Any] = dict(pairs=len(pairs.rows))
        self._collected: Collected | None = None

    @property
    def collected(self) -> Collected:
        """Features of all pairs, computed once."""
        if self._collected is None:
            self._collected = Collected(
                self.encoder, self.pairs, self.args.batch_size)
        return self._collected

    def write(self, name: str, picture: np.ndarray, head: Sequence[str],
              rows: Iterable[Sequence[Any]]) -> None:
        """Write a figure and its numbers."""
        with atomic_write(self.out / f'{name}.csv') as file:
            writer = csv.writer(file)
            writer.writerow(head)
            writer.writerows(
                [f'{x:.6g}' if isinstance(x, float) else x for x in row]
                for row in rows)
        write_png(picture, self.out / f'{name}.png')

    def spectrum(self) -> None:
        """Singular values of each sensor and of both together."""
        features = dict(self.collected.features)
        features['both'] = torch.cat(list(features.values()))
        values = {name: figures.singular_spectrum(x)
                  for name, x in features.items()}
        ranks = {name: figures.effective_rank(x)
                 for name, x in values.items()}
        self.summary['effective_rank'] = ranks
        self.write(
            'spectrum', drawing.draw_spectrum(
                {name: x.numpy() for name, x in values.items()}, ranks),
            ('features', 'direction', 'singular_value'), (
                (name, i + 1, value) for name, x in values.items()
                for i, value in enumerate(x.tolist())))

    def alignment(self) -> None:
        """Cosine of tokens against SSIM of patches."""
        ssim = self.collected.ssim.flatten()
        cosine = self.collected.cosine.flatten()
        bins = figures.binned_means(ssim, cosine)
        related = figures.correlation(ssim, cosine)
        self.summary['alignment'] = dict(
            correlation=related, mean_cosine=float(cosine.mean()))
        self.write(
            'alignment', drawing.draw_alignment(
                ssim.numpy(), cosine.numpy(), bins, related),
            ('ssim', 'cosine', 'deviation', 'patches'), bins)

    def scales(self) -> None:
        """SSIM of whole files against the size of their pixels."""
        sizes = parse_gsd(self.args.gsd)
        found: dict[str, list[list[float]]] = {}
        for row in self.pairs.rows:
            info = self.pairs.dataset.get_data_info(row)
            levels = found.setdefault(info['source'], [])
            values = figures.ssim_by_scale(
                *read_grey(info), levels=self.args.levels)
            for i, value in enumerate(values):
                if i == len(levels):
                    levels.append([])
                levels[i].append(float(value))
        unknown = sorted(set(sizes) - {'', *found})
        if unknown:
            raise ConfigError(
                f'--gsd {unknown[0]}=...: there is no such source; found '
                f'are {", ".join(sorted(found))}.')
        curves = {
            source: [(sizes.get(source, sizes.get('', 1.)) * 2**i,
                      float(np.mean(values)), float(np.std(values)))
                     for i, values in enumerate(levels)]
            for source, levels in found.items()}
        self.write(
            'scales', drawing.draw_scales(
                curves, 'm' if sizes else 'pixels of the files'),
            ('source', 'pixel', 'ssim', 'deviation', 'pairs'), (
                (source, *point, len(found[source][i]))
                for source, points in curves.items()
                for i, point in enumerate(points)))

    def gap(self) -> None:
        """Both sensors in the plane of largest spread."""
        features = self.collected.features
        self.summary['modality_gap'] = figures.modality_gap(
            features['rgb'], features['sar'])
        points, shares = figures.principal_plane(
            torch.cat([features[name] for name in SENSORS]))
        labels = (f'first direction, {100 * shares[0]:.0f} % of the variance',
                  f'second, {100 * shares[1]:.0f} %')
        self._map('gap', points.numpy(), 'Modality gap (PCA)', labels)

    def umap(self) -> None:
        """Both sensors in a plane that keeps neighbours together."""
        umap = require('umap', 'umap')
        features = self.collected.features
        points = umap.UMAP(random_state=self.args.seed).fit_transform(
            torch.cat([features[name] for name in SENSORS]).numpy())
        self._map('umap', np.asarray(points), 'Modality gap (UMAP)')

    def _map(self, name: str, points: np.ndarray, title: str,
             labels: tuple[str, str] = ('', '')) -> None:
        rgb, sar = np.split(points, 2)
        paths = [self.pairs.dataset.get_data_info(row)['rgb_path']
                 for row in self.pairs.rows]
        self.write(
            name, drawing.draw_gap(rgb, sar, title, labels),
            ('optical_file', 'rgb_x', 'rgb_y', 'sar_x', 'sar_y'), (
                (path, *map(float, (*a, *b)))
                for path, a, b in zip(paths, rgb, sar, strict=True)))

    def reconstruction(self) -> None:
        """Masked images, rebuilt and predicted for the other sensor."""
        model = self.encoder.model
        if not hasattr(model, 'reconstruct') or not hasattr(
                model, 'reconstruction'):
            raise ConfigError(
                f'{type(model).__name__} has no cross-modal reconstruction; '
                'osar_plugin.CoDeMAE has. Leave the figure out.')
        rows = [self.pairs.rows[i] for i in spread(
            len(self.pairs.rows), self.args.panels)]
        batch = self.pairs.batch(rows)
        panels = Panels(model, batch, self.args.seed)
        paths = [Path(self.pairs.dataset.get_data_info(row)['rgb_path'])
                 for row in rows]
        names = [f'{path.parent.parent.name}/{path.stem}' for path in paths]
        images, labels = [], []
        for i, name in enumerate(names):
            for j, sensor in enumerate(('optical', 'SAR')):
                images.append(panels.row(i + j * len(rows)))
                labels.append(f'{name}\n{sensor} seen')
        self.write(
            'reconstruction', drawing.draw_panels(
                images, panels.titles, labels),
            ('pair', 'seen', *panels.errors), (
                (names[i % len(rows)], SENSORS[i // len(rows)],
                 *(float(error[i]) for error in panels.errors.values()))
                for i in range(2 * len(rows))))


def read_grey(info: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Both images of a pair as files have them, (1, H, W) on 0..1.

    Raises:
        DataFormatError: If their sizes differ.
    """
    rgb, sar = (
        decode_8bit(Path(info[key]).read_bytes(), info[key])
        for key in ('rgb_path', 'sar_path'))
    sar = as_sar(sar, info['sar_path'])
    if rgb.shape[:2] != sar.shape[:2]:
        raise DataFormatError(
            f'{info["rgb_path"]}: {rgb.shape[:2]}, its SAR image '
            f'{sar.shape[:2]}: a pair needs equal sizes.')
    colour = torch.from_numpy(np.ascontiguousarray(
        as_optical(rgb).transpose(2, 0, 1)))[None].float() / 255
    return grey(colour, 'rgb')[:, 0], torch.from_numpy(
        sar)[None].float() / 255


class Panels:
    """Pictures of what a CoDe-MAE makes of a masked batch.

    Predictions are of normalised patches; mean and deviation of each patch
    are lent by the target, as in MAE's own pictures. Units that the encoder
    has seen are shown as they are, those of the other sensor grey: nothing
    is asked of the network there.

    Args:
        model: With ``reconstruct``.
        batch: Of K pairs.
        seed: Of the masking.

    Attributes:
        titles: Of the columns.
        errors: (2 K,) mean squared error of the normalised hidden units, by
            objective.
    """

    def __init__(self, model: Any, batch: Any, seed: int) -> None:
        data = model.data_preprocessor(batch)
        self.inputs = inputs = data['inputs']
        self.grid = model.backbone.grid_of(inputs['rgb'])
        units = self.grid[0] * self.grid[1]
        inputs['noise'] = torch.rand(
            len(inputs['rgb']), units,
            generator=torch.Generator().manual_seed(seed)).to(
                inputs['rgb'].device)
        out = model.reconstruct(inputs)
        self.hidden = out['masking'].mask().bool().cpu()
        self.titles = ['image', 'what is seen']
        self.errors: dict[str, Tensor] = {}
        self.columns: list[list[np.ndarray]] = []
        for name, part, text in (
                ('self', model.reconstruction, 'rebuilt'),
                ('cross', model.degraded, 'other sensor, predicted')):
            if part is None:
                continue
            error = (out[name] - out[f'{name}_target']).square().mean(-1)
            hidden = self.hidden.to(error.device)
            self.errors[name] = ((error * hidden).sum(1) / hidden.sum(
                1).clamp(min=1)).cpu()
            self.titles += [text]
            self.columns.append(self._restored(part, out[name], name))
            if part.swap:
                self.titles.append('other sensor, target')
                self.columns.append(self._restored(part, None, name))

    def row(self, index: int) -> list[np.ndarray]:
        """Pictures of the image ``index`` of ``[optical; SAR]``."""
        half = len(self.hidden) // 2
        sensor = SENSORS[index // half]
        image = self.inputs[f'{sensor}01'][index % half].cpu().numpy()
        image = drawing.stretch(image.transpose(1, 2, 0).repeat(
            3 // len(image), 2), 0., 1.)
        hidden = self.hidden[index].view(self.grid).numpy()
        return [image, drawing.hide_patches(image, hidden, PATCH),
                *(column[index] for column in self.columns)]

    def _restored(self, part: Any, prediction: Tensor | None,
                  name: str) -> list[np.ndarray]:
        """Images of a prediction, or of its target; (H, W, 3) uint8."""
        order = SENSORS[::-1] if part.swap else SENSORS
        target = torch.cat([patchify(describe(
            part.target, part.reduction, self.inputs[sensor],
            self.inputs.get(f'{sensor}01'), sensor)) for sensor in order])
        patches = target
        if prediction is not None:
            patches = prediction
            if part.norm_target:
                var, mean = torch.var_mean(target, -1, keepdim=True)
                patches = prediction * (var + 1e-6).sqrt() + mean
            if name == 'self':
                hidden = self.hidden.to(target.device)[..., None]
                patches = torch.where(hidden, patches, target)
        images = [unpatchify(x, self.grid) for x in (patches, target)]
        colour = part.target == 'pixel' and images[0].shape[1] == 3
        if colour:
            images = [self._unit_scale(x, order) for x in images]
        hide = prediction is not None and name == 'cross'
        return [self._image(one, goal, i, colour, hide)
                for i, (one, goal) in enumerate(zip(*images, strict=True))]

    def _unit_scale(self, images: Tensor, order: Sequence[str]) -> Tensor:
        """Undo the preprocessor's normalisation of each channel."""
        out = []
        for sensor, half in zip(order, images.chunk(2), strict=True):
            raw, seen = self.inputs[f'{sensor}01'], self.inputs[sensor]
            spread_raw, spread_seen = (
                x.std((2, 3), keepdim=True) for x in (raw, seen))
            scale = spread_raw / spread_seen.clamp(min=1e-6)
            shift = raw.mean((2, 3), keepdim=True) - scale * seen.mean(
                (2, 3), keepdim=True)
            out.append(half * scale + shift)
        return torch.cat(out)

    def _image(self, one: Tensor, goal: Tensor, index: int, colour: bool,
               hide_seen: bool) -> np.ndarray:
        """One image, on 0..1 in colour, else on the scale of its target."""
        pixels, scale = (
            x.float().cpu().numpy().transpose(1, 2, 0) for x in (one, goal))
        low, high = 0., 1.
        if not colour:  # of HOG and MGF the strength of all channels
            pixels, scale = pixels.mean(2), scale.mean(2)
            low, high = map(float, np.percentile(scale, (1, 99)))
        image = drawing.stretch(pixels, low, high)
        if hide_seen:
            seen = ~self.hidden[index].view(self.grid).numpy()
            image = drawing.hide_patches(image, seen, PATCH)
        return image


def choose_figures(args: argparse.Namespace, encoder: FrozenEncoder
                   ) -> list[str]:
    """The figures that are wanted, or that can be drawn."""
    if args.figures:
        return list(dict.fromkeys(args.figures))
    names = list(FIGURES)
    if not hasattr(encoder.model, 'reconstruction'):
        names.remove('reconstruction')
    try:
        require('umap', 'umap')
    except MissingDependencyError:
        names.remove('umap')
        print_log('umap-learn is not installed: no figure umap.', 'current')
    return names


def load_encoder(args: argparse.Namespace, wants_decoders: bool
                 ) -> FrozenEncoder:
    """The encoder of the command line.

    Raises:
        ConfigError: If there is no checkpoint, or it has no decoders and
            these are asked for.
    """
    path: str | None = args.checkpoint
    if path == 'untrained':
        path = None
    else:
        path = str(checkpoint_file(args.checkpoint))
    encoder = FrozenEncoder(
        load_config(args.config, args.cfg_options), path, args.device,
        args.seed)
    if encoder.report is not None and encoder.report.missing and (
            wants_decoders):
        raise ConfigError(
            f'{path}: has no weights for {encoder.report.missing[0]} and '
            f'{len(encoder.report.missing) - 1} others: reconstruction '
            'needs a whole checkpoint of this config. Leave it out with '
            '--figures.')
    return encoder


def main() -> None:
    """Draw the figures."""
    args = parse_args()
    require_range(3, limit=args.limit)
    require_range(
        1, panels=args.panels, levels=args.levels,
        batch_size=args.batch_size)
    require_range(0, 2**31, seed=args.seed)
    parse_gsd(args.gsd)
    encoder = load_encoder(
        args, 'reconstruction' in (args.figures or ('reconstruction', )))
    names = choose_figures(args, encoder)
    pairs = Pairs(pairs_of(
        encoder.cfg, encoder.side, args.data_root), args.limit)
    sheets = Sheets(args, encoder, pairs)
    for name in names:
        getattr(sheets, name)()
    with atomic_write(sheets.out / 'summary.json') as file:
        json.dump(sheets.summary, file, indent=2)
        file.write('\n')
    sys.stdout.write(
        f'{len(pairs.rows)} pairs: {", ".join(names)} in {args.out}\n')


if __name__ == '__main__':
    launch.run(main)
