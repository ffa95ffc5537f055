"""Single-image pipelines on both images of a pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.transforms import BaseTransform, Compose

from osar_plugin.registry import TRANSFORMS
from osar_plugin.structures import ReIDDataSample
from osar_plugin.utils.config_values import Buildable
from osar_plugin.utils.errors import DataFormatError

from .loading import OPTICAL, SAR, require_key
from .packing import to_tensor

_SIDES = (('optical', OPTICAL), ('sar', SAR))


@TRANSFORMS.register_module()
class PairPipeline(BaseTransform):
    """Run the same transforms on the optical and on the SAR image.

    Chance falls for each image anew, as in the official pre-training.

    Required keys: ``optical_path``, ``sar_path``. Set keys: ``optical`` and
    ``sar``, the results of each side.

    Args:
        transforms: Single-image transforms, without packing.
    """

    def __init__(self, transforms: Sequence[Buildable]) -> None:
        self.transforms = Compose(list(transforms))

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Set both sides."""
        for side, modality in _SIDES:
            path = require_key(results, f'{side}_path', self)
            image = self.transforms({'img_path': path, 'modality': modality})
            if image is None:
                raise DataFormatError(
                    f'{path}: the transforms of PairPipeline returned no '
                    'sample. Each must return the results or raise.')
            results[side] = image
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(transforms={self.transforms})'


@TRANSFORMS.register_module()
class PackPairInputs(BaseTransform):
    """Pack a pair.

    Required keys: ``optical`` and ``sar`` (each with ``img``), ``pid``.

    Returns (as the whole sample):
        inputs: ``{'optical': (3, H, W), 'sar': (3, H, W)}`` tensors.
        data_samples: :class:`~osar_plugin.structures.ReIDDataSample` with
            ``pid`` and ``label``, and the paths as meta information.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return the packed sample."""
        sample = ReIDDataSample(metainfo={
            key: results[key]
            for key in ('optical_path', 'sar_path', 'sample_idx')
            if key in results})
        sample.pid = int(require_key(results, 'pid', self))
        sample.label = int(results.get('label', -1))
        inputs = {
            side: to_tensor(require_key(
                require_key(results, side, self), 'img', self))
            for side, _ in _SIDES}
        return {'inputs': inputs, 'data_samples': sample}
