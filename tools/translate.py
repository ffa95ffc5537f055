r"""Make SAR-like images of optical ones.

    python tools/translate.py chips/ -o out --config configs/bbdm_hoss.py \
        --checkpoint bbdm_hoss.pth --preset fast --sar sar_chips/

Writes OUT/<name>_sar_<k>.png for each view, .tif with the georeference of
the input for GeoTIFFs, and contact_sheet.png. What is whole in OUT and was
made from the same image, weights and settings is kept, so a run that was
stopped goes on where it stood. Images that cannot be used are named at the
end, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from osar_plugin.utils import launch
from osar_plugin.utils.errors import ConfigError, OSARError

KEY = 'osar_plugin_view'
"""Name of the metadata by which a whole view is recognised."""


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('inputs', nargs='+', metavar='FILE|DIR',
        help='optical images; of folders, with their sub-folders, all but '
        'files named ..._SAR')
    add('-o', '--out', required=True, metavar='DIR', help='output folder')
    add('--config', required=True, help='config file of the translator')
    add('--checkpoint', required=True, help='weights of the translator')
    add('--preset', choices=('official', 'fast'),
        help="sampler settings; default: the config's")
    add('--views', type=int, help='views of each image')
    add('--steps', type=int, help='steps of the sampler')
    add('--eta', type=float, help='factor of the noise')
    add('--salt', type=int, help='another number gives other views')
    add('--sar', metavar='DIR',
        help='real SAR for the contact sheet: of the same file name, with '
        '_SAR for _RGB, or of the same HOSS identity')
    add('--modality', choices=('auto', 'optical'), default='auto',
        help='auto: refuse what looks like SAR, by its name or by its one '
        'channel')
    add('--tile', action='store_true',
        help='go over images larger than the network in windows rather '
        'than shrink them')
    add('--amp', choices=('auto', 'on', 'off'), default='auto',
        help='half precision; auto: where the device has it')
    add('--batch-size', type=int, default=8,
        help='images at once, each with all its views')
    add('--max-rows', type=int, default=12,
        help='images in the contact sheet, evenly spread')
    add('--force', action='store_true', help='make all views anew')
    add('--device', help="e.g. cpu, cuda:0; default: MMEngine's choice")
    return parser.parse_args()


@dataclass(frozen=True)
class Job:
    """An image to translate.

    Attributes:
        source: The file.
        target: Path of its views without ``_sar_<k>`` and suffix.
        geo: Whether it is a GeoTIFF.
    """

    source: Path
    target: Path
    geo: bool

    def paths(self, views: int) -> list[Path]:
        """Files of the views."""
        suffix = '.tif' if self.geo else '.png'
        digits = len(str(views - 1))
        return [
            self.target.with_name(
                f'{self.target.name}_sar_{k:0{digits}d}{suffix}')
            for k in range(views)]


def plan(inputs: Sequence[str], out: Path) -> list[Job]:
    """List the images and where their views go.

    Raises:
        ConfigError: If two would write the same files, or an input folder
            holds the output.
        OSARError: If a folder has no image.
    """
    from osar_plugin.apis.translation import list_inputs
    from osar_plugin.utils.geotiff import has_georeference

    jobs: dict[Path, Job] = {}
    for root in map(Path, inputs):
        if root.is_dir() and out.resolve().is_relative_to(root.resolve()):
            raise ConfigError(
                f'--out {out} lies in the input folder {root}: its files '
                'would be inputs of the next run. Give another folder.')
        for item in list_inputs(root):
            source = Path(str(item))
            name = source.relative_to(root) if root.is_dir() else Path(
                source.name)
            target = out / name.with_suffix('')
            if target in jobs and jobs[target].source != source:
                raise ConfigError(
                    f'{jobs[target].source} and {source} would both write '
                    f'{target}_sar_*. Rename one, or give them output '
                    'folders of their own.')
            jobs[target] = Job(source, target, has_georeference(source))
    return list(jobs.values())


def view_keys(job: Job, fingerprint: str, views: int) -> list[str]:
    """What tells each view from those of other images and settings."""
    from osar_plugin.utils.checkpoint import sha256_of

    start = f'{fingerprint} {sha256_of(job.source)}'
    return [hashlib.sha256(f'{start} {k}'.encode()).hexdigest()
            for k in range(views)]


def read_views(job: Job, keys: Sequence[str]) -> Any:
    """The views (K, H, W) on disk, if all are whole and the right ones."""
    import numpy as np
    from PIL import Image

    from osar_plugin.io import decode
    from osar_plugin.utils.geotiff import read_tags

    found = []
    for path, key in zip(job.paths(len(keys)), keys, strict=True):
        if not path.is_file():
            return None
        try:
            found.append(decode(path))
        except OSARError:
            return None
        if job.geo:
            stated = read_tags(path).get(KEY)
        else:
            with Image.open(path) as image:
                stated = image.info.get(KEY)
        if stated != key:
            return None
    whole = len({view.shape for view in found}) == 1
    return np.stack(found) if whole else None


def write_views(job: Job, views: Any, keys: Sequence[str]) -> None:
    """Write the views of an image, each whole or not at all."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from osar_plugin.io import atomic_write
    from osar_plugin.utils.geotiff import encode_geotiff, read_georeference

    place = read_georeference(job.source) if job.geo else None
    for path, view, key in zip(
            job.paths(len(keys)), views, keys, strict=True):
        if place is not None:
            content = encode_geotiff(view, place, {KEY: key})
        else:
            info = PngInfo()
            info.add_text(KEY, key)
            buffer = BytesIO()
            Image.fromarray(view).save(buffer, 'PNG', pnginfo=info)
            content = buffer.getvalue()
        with atomic_write(path, 'wb') as file:
            file.write(content)


class RealSAR:
    """Finds and reads the real SAR image of an optical one.

    Args:
        folder: Where to look, or ``None`` for nowhere.
        transforms: Of the translator's pipeline.
    """

    def __init__(self, folder: str | None,
                 transforms: Sequence[Any]) -> None:
        from osar_plugin.apis.reid import list_chips, modality_from_name
        from osar_plugin.visualization.reid import ChipReader

        self.read = ChipReader(transforms)
        self.paths = [
            path for path in (list_chips(folder) if folder else ())
            if modality_from_name(path) != 0]

    def find(self, source: Path) -> Path | None:
        """The file, ``None`` if there is none."""
        from osar_plugin.apis.search import identity_of

        stem = source.stem
        names = [stem]
        if stem.upper().endswith('_RGB'):
            names.append(f'{stem[:-3]}SAR')
        for name in names:
            for path in self.paths:
                if path.stem.upper() == name.upper() and (
                        path.resolve() != source.resolve()):
                    return path
        pid = identity_of(source)
        if pid is None:
            return None
        return next(
            (path for path in self.paths if identity_of(path) == pid), None)

    def __call__(self, source: Path) -> tuple[Any, str]:
        """Its pixels, or ``None``, and a note for the sheet."""
        path = self.find(source)
        if path is None:
            return None, ''
        return self.read(path, 1), f'real SAR: {path.name}'


class Run:
    """One run of the tool.

    Args:
        args: Command line arguments.
        inferencer: The translator.
        jobs: What there is to do.
    """

    def __init__(self, args: argparse.Namespace, inferencer: Any,
                 jobs: list[Job]) -> None:
        from osar_plugin.visualization.reid import spread

        self.args, self.inferencer, self.jobs = args, inferencer, jobs
        self.fingerprint = inferencer.fingerprint(args.tile)
        self.failed: dict[int, OSARError] = {}
        self.kept = self.made = 0
        # Of the others nothing is kept in memory.
        self._shown = set(spread(len(jobs), args.max_rows))
        self._rows: dict[int, Any] = {}
        self._real = RealSAR(args.sar, inferencer.transforms)

    def go(self) -> Iterator[None]:
        """Translate what is not there yet; yields for every image."""
        todo = []
        for row, job in enumerate(self.jobs):
            try:
                views = None if self.args.force else read_views(
                    job, self._keys(job))
            except OSError:
                views = None  # the reader will say what is wrong
            if views is None:
                todo.append(row)
                continue
            self.kept += 1
            self._show(row, views)
            yield
        results = self.inferencer.stream(
            [self.jobs[row].source for row in todo], self.args.batch_size,
            self.args.modality, self.args.tile,
            on_error=lambda i, error: self._fail(todo[i], error))
        for i, result in results:
            job = self.jobs[todo[i]]
            try:
                write_views(job, result.views, self._keys(job))
            except OSARError as error:
                self._fail(todo[i], error)
                continue
            self.made += 1
            self._show(todo[i], result.views)
            yield

    def sheet(self) -> Any:
        """The contact sheet, ``None`` if there is nothing to show."""
        from osar_plugin.visualization.translation import draw_contact_sheet

        if not self._rows:
            return None
        settings = self.inferencer.settings
        shown = f'{len(self._rows)} of {len(self.jobs)} images' if len(
            self._rows) < len(self.jobs) else f'{len(self.jobs)} images'
        steps = 'all' if settings.steps is None else settings.steps
        return draw_contact_sheet(
            [self._rows[row] for row in sorted(self._rows)],
            'Optical to SAR',
            f'{shown}  ·  {settings.views} views each, {steps} steps, eta '
            f'{settings.eta:g}  ·  spread: standard deviation over the '
            'views, in grey levels')

    def _keys(self, job: Job) -> list[str]:
        return view_keys(
            job, self.fingerprint, self.inferencer.settings.views)

    def _fail(self, row: int, error: OSARError) -> None:
        self.failed[row] = error

    def _show(self, row: int, views: Any) -> None:
        from osar_plugin.io import read_optical
        from osar_plugin.visualization.translation import TranslatedRow

        if row not in self._shown:
            return
        job = self.jobs[row]
        real, note = None, ''
        try:
            real, note = self._real(job.source)
        except OSARError as error:
            sys.stderr.write(f'left out of the sheet: {error}\n')
        self._rows[row] = TranslatedRow(
            job.source.name, read_optical(job.source), views, real, note)


def check_args(args: argparse.Namespace) -> None:
    """Refuse what can be refused before the model is built."""
    if args.batch_size < 1 or args.max_rows < 1:
        raise ConfigError(
            f'--batch-size {args.batch_size}, --max-rows {args.max_rows}: '
            'expected 1 or more.')


def main() -> None:
    """Translate."""
    args = parse_args()
    check_args(args)
    # Imported here: help and wrong flags need no torch.
    from rich.console import Console
    from rich.progress import track

    from osar_plugin.apis.translation import OpticalToSARInferencer
    from osar_plugin.compat import require
    from osar_plugin.visualization.reid import write_png

    jobs = plan(args.inputs, Path(args.out))
    if any(job.geo for job in jobs):
        # Told before a model of a gigabyte loads.
        require('rasterio', 'geo')
    settings = {name: getattr(args, name)
                for name in ('views', 'steps', 'eta', 'salt')
                if getattr(args, name) is not None}
    inferencer = OpticalToSARInferencer(
        args.config, args.checkpoint, args.device,
        'auto' if args.amp == 'auto' else args.amp == 'on', args.preset,
        **settings)
    run = Run(args, inferencer, jobs)
    for _ in track(run.go(), 'Translating', len(jobs),
                   console=Console(stderr=True),
                   disable=not sys.stderr.isatty()):
        pass
    out = Path(args.out)
    picture = run.sheet()
    if picture is not None:
        write_png(picture, out / 'contact_sheet.png')
        sys.stdout.write(f'{out / "contact_sheet.png"}\n')
    sys.stdout.write(
        f'{run.made} images translated, {run.kept} kept from before, '
        f'{len(run.failed)} failed ({inferencer.settings.views} views each, '
        f'in {out})\n')
    for row in sorted(run.failed):
        sys.stdout.write(f'failed: {run.failed[row]}\n')
    if run.failed:
        sys.exit(1)


if __name__ == '__main__':
    launch.run(main)
