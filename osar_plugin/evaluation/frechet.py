"""Frechet inception distance, for those who have the network's weights.

Nothing is downloaded. With torchvision's weights the figure compares
translators on one data set; it is not the published FID, whose network was
converted from TensorFlow, pools differently and was trained otherwise.

Legend: N images, D channels of a feature, H W height and width.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor, nn

from ..compat import require
from ..registry import METRICS
from ..utils.checkpoint import load_checkpoint
from ..utils.config_values import require_range
from ..utils.errors import DataFormatError

_SIZE = 299


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D, D) of features, float64.

    Args:
        features: (N, D).

    Raises:
        DataFormatError: If there are fewer than two or one is not finite.
    """
    if features.ndim != 2 or len(features) < 2:
        raise DataFormatError(
            f'Features of shape {tuple(features.shape)} have no covariance: '
            'expected (N, D) of at least two images.')
    if not torch.isfinite(features).all():
        raise DataFormatError(
            'Features hold NaN or infinite values: the weights of the '
            'network or the images are broken.')
    features = features.double()
    return features.mean(0), torch.cov(features.T).reshape(
        features.shape[1], -1)


def frechet_distance(first: tuple[Tensor, Tensor],
                     second: tuple[Tensor, Tensor]) -> float:
    """Squared Frechet distance of two Gaussians.

    ``|a - b|^2 + tr(A + B - 2 (A^(1/2) B A^(1/2))^(1/2))`` (Heusel et al.,
    "GANs trained by a two time-scale update rule converge to a local Nash
    equilibrium", 2017, equation 6, in its symmetric form, whose roots are of
    symmetric matrices only).

    Args:
        first: Mean (D,) and covariance (D, D).
        second: The same.
    """
    (mean_a, cov_a), (mean_b, cov_b) = first, second
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    product = root @ cov_b @ root
    overlap = torch.linalg.eigvalsh((product + product.T) / 2)
    distance = (
        (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace()
        - 2 * overlap.clamp(min=0).sqrt().sum())
    return max(float(distance), 0.)


def inception(weights: str) -> nn.Module:
    """Inception v3 of torchvision up to its last pooling, (N, 2048).

    Args:
        weights: A file of torchvision's weights; read without unpickling.

    Raises:
        CheckpointError: If the file cannot be used.
        MissingDependencyError: If torchvision is not installed.
    """
    models = require('torchvision.models', 'reid')
    network: nn.Module = models.inception_v3(
        weights=None, init_weights=False, aux_logits=True)
    load_checkpoint(network, weights).require_complete('AuxLogits.')
    network.fc = nn.Identity()
    return network.eval().requires_grad_(False)


def prepare(images: Tensor) -> Tensor:
    """Images (N, 3, H, W), 0..255, to -1..1 of the network's size."""
    images = F.interpolate(
        images.float(), (_SIZE, _SIZE), mode='bilinear', antialias=True,
        align_corners=False)
    return images / 127.5 - 1


@METRICS.register_module()
class FrechetInceptionMetric(BaseMetric):
    """Frechet distance between all views and all real SAR images.

    Samples and batches as :class:`~.translation.TranslationMetric` takes
    them. A pair's SAR image counts once, its views all count.

    Args:
        weights: File of torchvision's ``inception_v3`` weights.
        batch_size: Images in one run of the network.
        collect_device: As in MMEngine.
        prefix: Put before the key as ``<prefix>/``.
        collect_dir: As in MMEngine.

    Key: ``fid_torchvision``.
    """

    default_prefix = 'translation'

    def __init__(
            self, weights: str, batch_size: int = 16,
            collect_device: str = 'cpu', prefix: str | None = None,
            collect_dir: str | None = None) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        require_range(1, batch_size=batch_size)
        self.batch_size = batch_size
        self.network: Any = inception(weights)

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Describe a batch.

        Raises:
            DataFormatError: If a sample has no views or no SAR image.
        """
        sar = (data_batch.get('inputs') or {}).get('sar')
        for i, sample in enumerate(data_samples):
            if not isinstance(sample, Mapping):
                sample = sample.to_dict()
            if sar is None or sample.get('views') is None:
                raise DataFormatError(
                    'FrechetInceptionMetric needs the views of a translator '
                    'and the real SAR image of each pair at inputs.sar.')
            self.results.append(dict(
                generated=self.describe(sample['views']),
                real=self.describe(sar[i][None])))

    @torch.no_grad()
    def describe(self, images: Tensor) -> Tensor:
        """Features (N, 2048) of images (N, 3, H, W), on the host."""
        parts = [self.network(prepare(part).to(
            next(self.network.parameters()).device))
            for part in images.split(self.batch_size)]
        return torch.cat(parts).cpu()

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """The distance.

        Raises:
            DataFormatError: If there are fewer than two pairs.
        """
        sides = [torch.cat([r[side] for r in results])
                 if results else torch.empty(0, 1)
                 for side in ('generated', 'real')]
        if len(sides[1]) < sides[1].shape[1]:
            print_log(
                f'{len(sides[1])} real images for features of '
                f'{sides[1].shape[1]} channels: the covariance is not of '
                'full rank, and the distance depends on the number of '
                'images. Compare figures of equally many images only.',
                'current', logging.WARNING)
        return dict(fid_torchvision=frechet_distance(
            moments(sides[0]), moments(sides[1])))
