"""SOMA: features of both sensors, a matcher, losses.

Wang et al., "SOMA: Feature Gradient Enhanced Affine-Flow Matching for
SAR-Optical Registration" (AAAI 2026).

Letters: B batch, H W height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor

from ...registry import MODELS
from ...utils.checkpoint import adapt_on_load
from ...utils.config_values import Buildable, require_range
from ...utils.errors import ConfigError, DataFormatError
from ...utils.geometry import pixel_grid
from ..precision import full_precision
from ..weights import SafeWeights
from .fitting import fit_affine_robust
from .glam_blocks import GLAMOutput
from .official import adapt
from .search import SearchSettings, match_searched

MATCHER = dict(type='osar_plugin.GLAM')
LOSS = dict(type='osar_plugin.SOMALoss')
PREPROCESSOR = dict(type='osar_plugin.RegistrationPreprocessor')
# Pixels between points that the affine of a flow is fitted to.
STEP = 8


@MODELS.register_module()
class SOMA(SafeWeights, BaseModel):
    """Dense registration of optical and SAR images.

    Every loader of state dicts accepts our keys and the release's, see
    :mod:`.official`.

    Args:
        encoder: Config of the encoder, such as :class:`TwoBranchEncoder`.
        matcher: Config of :class:`GLAM` or :class:`ReleasedGLAM`; its
            ``channels`` are taken from the encoder.
        loss: Config of :class:`SOMALoss`.
        refit: ``pred_affine`` is fitted to the flow, weighed by its
            certainty; else it is the matcher's own.
        min_certainty: A pair whose mean certainty, over the pixels of fixed
            with data, is below it counts as failed.
        search: Arguments of :class:`~.search.SearchSettings`: rotations
            and scales that are tried before a pair is matched, when no
            loss is asked for. None matches pairs as they come (release).
            Needs a matcher with ``coarse='tiles'``.
        data_preprocessor: Config of the data preprocessor.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)`` starts from a
            file of ours or of the release; with ``optional=True`` a missing
            file is a warning.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(self,
                 encoder: Buildable,
                 matcher: Buildable | None = None,
                 loss: Buildable | None = None,
                 refit: bool = True,
                 min_certainty: float = 0.,
                 search: dict[str, Any] | None = None,
                 data_preprocessor: Buildable | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor or dict(PREPROCESSOR), init_cfg)
        require_range(0, 1, min_certainty=min_certainty)
        self.encoder = MODELS.build(encoder)
        # What is no dict has been built already, and passes through.
        if matcher is None or isinstance(matcher, Mapping):
            matcher = dict(channels=self.encoder.out_channels,
                           **(matcher or MATCHER))
        self.matcher = MODELS.build(matcher)
        missing = set(self.matcher.strides) - set(self.encoder.out_channels)
        if missing:
            raise ConfigError(
                f'The matcher needs features of the strides '
                f'{sorted(missing)}, which the encoder does not give: it '
                f'has {sorted(self.encoder.out_channels)}.')
        check_used(self.encoder, self.matcher.strides)
        self.criterion = MODELS.build(loss or LOSS)
        self.refit, self.min_certainty = refit, min_certainty
        self.search = None if search is None else SearchSettings(**search)
        if search is not None and getattr(
                self.matcher, 'tiles', None) is None:
            raise ConfigError(
                f'search={search} compares the tiles of a coarse stage, '
                "which the matcher does not have. Set coarse='tiles' in it, "
                'or search=None.')
        adapt_on_load(self, adapt)

    def forward(self,
                inputs: dict[str, Any],
                data_samples: Sequence[BaseDataElement] | None = None,
                mode: str = 'tensor') -> Any:
        """Register a batch of pairs.

        Args:
            inputs: As :class:`~.preprocessor.RegistrationPreprocessor`
                gives them.
            data_samples: B samples; for ``'loss'`` with ``gt_flow`` (2, H,
                W) and, where known, ``gt_valid`` (H, W).
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.

        Returns:
            Losses by name; samples with predictions, see :meth:`predict`;
            or the matcher's output.

        Raises:
            DataFormatError: If the truth is missing or of another size.
            ConfigError: If there is no such mode.
        """
        if mode not in ('loss', 'predict', 'tensor'):
            raise ConfigError(
                f"mode={mode!r} is none of 'loss', 'predict', 'tensor'.")
        output = self.match(inputs, mode != 'loss')
        if mode == 'tensor':
            return output
        if mode == 'predict':
            return self.predict(output, inputs, data_samples)
        truth, valid = stack_truth(data_samples, output.flow)
        return self.criterion(output, truth, valid)

    def match(self, inputs: dict[str, Any],
              search: bool = False) -> GLAMOutput:
        """Encode both images and match them.

        Args:
            inputs: See :meth:`forward`.
            search: From the best start, if the model has a search.
        """
        sides = ('fixed', 'moving')
        masks = [inputs[f'{side}_valid'] for side in sides]
        if search and self.search is not None:
            encode = [partial(self._encode, modality=modality)
                      for modality in inputs['modalities']]
            return match_searched(
                [inputs[side] for side in sides], masks, encode,
                self.matcher, self.search)
        # What is valid everywhere needs no mask; looking costs one number.
        known = [None if bool(mask.all()) else mask for mask in masks]
        maps = [self.encoder(inputs[side], modality, mask)
                for side, modality, mask in zip(
                    sides, inputs['modalities'], known, strict=True)]
        output: GLAMOutput = self.matcher(*maps, known)
        return output

    def _encode(self, image: Tensor, mask: Tensor,
                modality: int) -> dict[int, Tensor]:
        maps: dict[int, Tensor] = self.encoder(
            image, modality, None if bool(mask.all()) else mask)
        return maps

    @torch.no_grad()
    def predict(self, output: GLAMOutput, inputs: dict[str, Any],
                data_samples: Sequence[BaseDataElement] | None
                ) -> list[BaseDataElement]:
        """Put predictions into the samples.

        Each gets ``pred_flow`` (2, H, W) float32 pixels on the grid of its
        fixed image, ``pred_certainty`` (H, W) in 0..1, ``pred_affine``
        (2, 3) float64 pixels, fixed to moving, and ``pred_ok``.
        """
        samples = list(data_samples or (
            BaseDataElement() for _ in inputs['sizes']))
        certainty = output.certainty.float().sigmoid()[:, 0]
        masks = inputs['fixed_valid'][:, 0]
        for i, (sample, size) in enumerate(
                zip(samples, inputs['sizes'], strict=True)):
            inside = (slice(size[0]), slice(size[1]))
            flow = output.flow[i].float()[(slice(None), *inside)]
            sure = certainty[i][inside] * masks[i][inside]
            affine = output.affine[i].double()
            usable = bool(flow.isfinite().all())
            if self.refit and usable:
                affine = affine_of_flow(flow, sure)
            mean = sure.sum() / masks[i][inside].sum().clamp(min=1)
            sample.set_data(dict(
                pred_flow=flow, pred_certainty=sure, pred_affine=affine,
                pred_ok=usable and float(mean) >= self.min_certainty))
        return samples


def check_used(encoder: Any, strides: Sequence[int]) -> None:
    """Refuse enhancers whose features nothing looks at.

    Their weights would never learn, and stop a distributed training.

    Raises:
        ConfigError: Naming their strides.
    """
    idle = sorted(set(getattr(encoder, 'fge_strides', ())) - set(strides))
    if idle:
        raise ConfigError(
            f'The encoder enhances features of the strides {idle}, which '
            f'the matcher does not look at: it needs {sorted(strides)}. '
            'Take them out of encoder.fge_strides.')


@full_precision
def affine_of_flow(flow: Tensor, certainty: Tensor,
                   step: int = STEP) -> Tensor:
    """The affine (2, 3) that most of a flow agrees with.

    Args:
        flow: (2, H, W).
        certainty: (H, W), not negative.
        step: Pixels between the points that are looked at.

    Returns:
        float64.
    """
    rows, columns = (slice(min(step // 2, n - 1), None, step)
                     for n in flow.shape[1:])
    grid = pixel_grid((flow.shape[1], flow.shape[2]), torch.float64,
                      flow.device)[:, rows, columns].flatten(1).mT
    moved = grid + flow.double()[:, rows, columns].flatten(1).mT
    # A little for every point keeps the equations solvable.
    weight = certainty.double()[rows, columns].flatten() + 1e-4
    out: Tensor = fit_affine_robust(grid, moved, weight)
    return out


def stack_truth(samples: Sequence[BaseDataElement] | None,
                flow: Tensor) -> tuple[Tensor, Tensor | None]:
    """True flows and masks of a batch.

    Args:
        samples: B samples.
        flow: (B, 2, H, W), the prediction.

    Returns:
        (B, 2, H, W) and (B, H, W) bool, or None where no sample has a mask.

    Raises:
        DataFormatError: If a truth is missing or of another size.
    """
    truths = [sample.get('gt_flow', None) for sample in samples or ()]
    shape = tuple(flow.shape[1:])
    wrong = [None if t is None else tuple(t.shape) for t in truths
             if t is None or tuple(t.shape) != shape]
    if len(truths) != len(flow) or wrong:
        raise DataFormatError(
            f'{len(flow)} pairs, {len(truths)} samples, true flows of '
            f'{wrong or "the right size"}: training needs gt_flow of '
            f'{shape} for each pair. Let osar_plugin.LoadRegistrationPair '
            'resize to sides that are multiples of 32 (at least 64), and '
            'osar_plugin.RandomPairWarp make the truth.')
    masks = [sample.get('gt_valid', None) for sample in samples or ()]
    valid = None
    if any(mask is not None for mask in masks):
        valid = torch.stack([
            torch.ones(shape[1:], dtype=torch.bool) if mask is None
            else mask.bool().cpu() for mask in masks]).to(flow.device)
    return torch.stack([t.float() for t in truths]).to(flow.device), valid
