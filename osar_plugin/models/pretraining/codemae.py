"""CoDe-MAE: one masked encoder, up to four objectives.

Letters: B pairs, L units of an image, N visible, M masked, D channels of the
trunk, E of the decoders, F of the pyramid, H W height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmengine.model import BaseModel, ModuleDict
from torch import Tensor

from ...registry import MODELS
from ...utils.checkpoint import adapt_on_load
from ...utils.config_values import Buildable
from ...utils.errors import ConfigError, DataFormatError
from ..backbones.hierarchical import UNIT
from ..backbones.trunk import MODALITIES
from ..weights import SafeWeights
from .decoder import LevelEmbedding
from .masking import Masking, kept_units, masking_of
from .official import adapt_codemae
from .teachers import Apart


class Encoded(NamedTuple):
    """What the encoder makes of a batch of pairs, ``[optical; SAR]``.

    Attributes:
        visible: (2 B, N, E), the levels of the pyramid embedded and summed.
        tokens: (2 B, N, D), the trunk's last.
        tapped: (2 B, N, D), of the block that the distillation listens to;
            ``None`` without one.
        masking: Of 2 B sequences; the halves are equal.
        grid: (h, w) in units.
    """

    visible: Tensor
    tokens: Tensor
    tapped: Tensor | None
    masking: Masking
    grid: tuple[int, int]


@MODELS.register_module()
class CoDeMAE(SafeWeights, BaseModel):
    """Joint pre-training on optical-SAR pairs.

    The total loss is the plain sum of the objectives. In a batch that is
    not wholly paired, what compares the two sensors counts nothing but stays
    in the graph, so that every parameter has a gradient in every step.

    Args:
        backbone: Config of an :class:`~osar_plugin.models.backbones.ITPN`
            with a pyramid and both patch embeddings.
        decoder: Config of a :class:`~.decoder.MaskedDecoder`, the form of
            all decoders.
        reconstruction: Config of a
            :class:`~.reconstruction.SelfReconstruction`, ``None`` for
            none; the others alike.
        degraded: Config of a :class:`~.degraded.DegradedReconstruction`.
        distillation: Config of a
            :class:`~.distillation.OpticalDistillation`; needs a teacher.
        contrast: Config of a :class:`~.contrast.PairContrast`.
        teacher: Config of a teacher. It is no part of the state dict and of
            what the optimizer sees.
        mask_ratio: Share of units that the encoder does not see.
        share_decoders: One decoder and one embedding for both sensors
            (published), or one each.
        data_preprocessor: Config of the data preprocessor.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)``: an iTPN file
            (trunk and pyramid are taken, its patch embedding twice) or one
            of this model, the authors' or ours.

    Raises:
        ConfigError: If the parts do not fit together.
    """

    def __init__(self,
                 backbone: Buildable,
                 decoder: Buildable,
                 reconstruction: Buildable | None = None,
                 degraded: Buildable | None = None,
                 distillation: Buildable | None = None,
                 contrast: Buildable | None = None,
                 teacher: Buildable | None = None,
                 mask_ratio: float = 0.75,
                 share_decoders: bool = True,
                 data_preprocessor: Buildable | None = None,
                 init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(
            data_preprocessor or dict(
                type='osar_plugin.PairPretrainPreprocessor'), init_cfg)
        self.backbone: Any = MODELS.build(backbone)
        kept_units((decoder.get('img_size', 224) // UNIT)**2, mask_ratio)
        self.mask_ratio = mask_ratio
        dim = decoder.get('dim', 512)
        decoding = dict(decoder=decoder, share=share_decoders)
        self.teacher = Apart(
            None if teacher is None else MODELS.build(teacher))
        self.embedding = self._build_embedding(
            dim, decoder.get('norm_eps', 1e-6), share_decoders)
        self.reconstruction: Any = _part(reconstruction, **decoding)
        self.degraded: Any = _part(degraded, **decoding)
        self.distillation: Any = _part(
            distillation, dim=dim, trunk_dim=self.backbone.embed_dim,
            **self.teacher.dims())
        self.contrast: Any = _part(contrast, dim=dim)
        self._check_parts()
        adapt_on_load(self, adapt_codemae)

    def _build_embedding(self, dim: int, norm_eps: float,
                         share: bool) -> ModuleDict:
        if self.backbone.modality != 'both' or self.backbone.num_outs == 1:
            raise ConfigError(
                f'backbone.modality={self.backbone.modality!r}, num_outs='
                f'{self.backbone.num_outs}: pre-training needs both patch '
                "embeddings (modality='both') and the pyramid (num_outs of "
                '3, 4 or 5).')
        width = self.backbone.out_channels[0]
        return ModuleDict({
            name: LevelEmbedding(width, dim, norm_eps)
            for name in (('shared', ) if share else MODALITIES)})

    def _check_parts(self) -> None:
        parts = (self.reconstruction, self.degraded, self.distillation,
                 self.contrast)
        if all(part is None for part in parts):
            raise ConfigError(
                'CoDeMAE has no objective: give reconstruction, degraded, '
                'distillation or contrast.')
        if self.distillation is not None and not self.teacher:
            raise ConfigError(
                'distillation needs a teacher: osar_plugin.DINOv3Teacher, '
                'or osar_plugin.PrecomputedTeacher with features on disk.')
        if self.distillation is None and self.teacher:
            raise ConfigError(
                'There is a teacher but no distillation, so nothing would '
                'listen to it. Set teacher=None or add the distillation.')

    def forward(self,
                inputs: dict[str, Tensor],
                data_samples: Sequence[Any] | None = None,
                mode: str = 'tensor') -> Any:
        """Run the model the MMEngine way.

        Args:
            inputs: ``rgb`` and ``sar`` (B, 3, H, W), normalised. Where a
                part needs them: ``rgb01`` and ``sar01``, the same on the
                scale 0..1; ``teacher`` (B, L, channels), features from
                disk. ``noise`` (B, L) decides the masking where it is
                given.
            data_samples: B samples with ``paired``; without them all pairs
                count as such.
            mode: ``'loss'`` gives the losses, ``'tensor'`` and
                ``'predict'`` the trunk's tokens of unmasked images:
                ``rgb`` and ``sar`` (B, L, D).

        Raises:
            ConfigError: For another mode.
            DataFormatError: If the batch does not suit the model.
        """
        _check_inputs(inputs)
        if mode == 'loss':
            return self.loss(inputs, is_paired(data_samples))
        if mode in ('tensor', 'predict'):
            return {name: self.extract_feat(inputs[name], name)
                    for name in MODALITIES}
        raise ConfigError(
            f"mode={mode!r} is none of 'loss', 'predict', 'tensor'.")

    def extract_feat(self, images: Tensor, modality: str) -> Tensor:
        """Trunk tokens (B, L, D) of whole images (B, 3, H, W)."""
        units = self.backbone.embed(images, modality)
        return self.backbone.trunk(
            units, self.backbone.grid_of(images)).tokens

    def encode(self, inputs: dict[str, Tensor],
               masking: Masking | None = None) -> Encoded:
        """Encode the visible units of both images of each pair at once.

        Args:
            inputs: See :meth:`forward`.
            masking: Of B images, drawn by default.
        """
        rgb, sar = inputs['rgb'], inputs['sar']
        grid = self.backbone.grid_of(rgb)
        units = torch.cat([self.backbone.embed(rgb, 'rgb'),
                           self.backbone.embed(sar, 'sar')])
        if masking is None:
            masking = self.draw(inputs, grid)
        both = masking.repeat(2)
        taps = () if self._tap() is None else (self._tap(), )
        output = self.backbone.trunk(units, grid, both.keep, taps)
        visible = self._embed(self.backbone.pyramid(output))
        tapped = output.taps[taps[0]] if taps else None
        return Encoded(visible, output.tokens, tapped, both, grid)

    def draw(self, inputs: dict[str, Tensor],
             grid: tuple[int, int]) -> Masking:
        """The masking of a batch: the same units of both images."""
        return masking_of(
            inputs, inputs['rgb'], grid[0] * grid[1], self.mask_ratio)

    def _tap(self) -> int | None:
        if self.distillation is None or not self.distillation.has_aux:
            return None
        return self.backbone.first_main + self.distillation.tap_block(
            self.backbone.depth)

    def _embed(self, levels: Sequence[Tensor]) -> Tensor:
        if 'shared' in self.embedding:
            return self.embedding['shared'](levels)
        halves = zip(*(level.chunk(2) for level in levels), strict=True)
        return torch.cat([self.embedding[name](half) for name, half in zip(
            MODALITIES, halves, strict=True)])

    def loss(self, inputs: dict[str, Tensor],
             paired: bool = True) -> dict[str, Tensor]:
        """Losses of one batch, one for each objective.

        Args:
            inputs: See :meth:`forward`.
            paired: Whether row i of both sensors shows the same ground, for
                all rows.

        Returns:
            ``loss_self``, ``loss_cross``, ``loss_distill`` and
            ``loss_contrast``, as far as there are such parts. To be logged,
            not to be summed: ``distill_main`` and ``distill_aux``.
        """
        self._check_images(inputs)
        encoded = self.encode(inputs)
        ids = encoded.masking
        losses: dict[str, Tensor] = {}
        if self.reconstruction is not None:
            losses['loss_self'] = self.reconstruction(
                encoded.visible, ids.keep, ids.masked, inputs)
        if self.degraded is not None:
            losses['loss_cross'] = _counted(paired, self.degraded(
                encoded.visible, ids.keep, ids.masked, inputs))
        if self.distillation is not None:
            losses.update(self._distill(inputs, encoded))
        if self.contrast is not None:
            losses['loss_contrast'] = _counted(
                paired, self.contrast(*encoded.visible.chunk(2)))
        return losses

    def _check_images(self, inputs: dict[str, Tensor]) -> None:
        for part in (self.reconstruction, self.degraded):
            if part is not None:
                part.check(inputs)

    def _distill(self, inputs: dict[str, Tensor],
                 encoded: Encoded) -> dict[str, Tensor]:
        batch = len(inputs['rgb'])
        features = self.teacher(inputs)
        self.distillation.check(features, batch, encoded.grid)
        tapped = encoded.tapped
        parts = self.distillation(
            encoded.visible[:batch],
            None if tapped is None else tapped[:batch], features,
            encoded.masking.keep[:batch])
        logged = {f'distill_{k}': v.detach() for k, v in parts.items()}
        return dict(loss_distill=sum(parts.values()), **logged)

    @torch.no_grad()
    def reconstruct(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        """What the decoders make of a masked batch, to be looked at.

        Args:
            inputs: See :meth:`forward`.

        Returns:
            ``masking`` of 2 B images ``[optical; SAR]``; ``self`` and
            ``cross`` where there are such parts: predictions (2 B, L, V)
            of all units; ``self_target`` and ``cross_target`` likewise.
            Row i of ``cross`` is seen by one sensor and predicts the other.
        """
        _check_inputs(inputs)
        self._check_images(inputs)
        encoded = self.encode(inputs)
        out: dict[str, Any] = dict(masking=encoded.masking)
        for name, part in (('self', self.reconstruction),
                           ('cross', self.degraded)):
            if part is not None:
                out[name] = part.predict(encoded.visible,
                                         encoded.masking.keep).float()
                out[f'{name}_target'] = part.targets(inputs)
        return out


def is_paired(data_samples: Sequence[Any] | None) -> bool:
    """Whether all samples of a batch are pairs (official rule).

    Decided on the host: nothing waits for the device.

    Raises:
        DataFormatError: If a sample does not say.
    """
    for sample in data_samples or ():
        if not hasattr(sample, 'paired'):
            raise DataFormatError(
                "A data sample has no 'paired' (1, or 0 where both images "
                'show different ground). End the pipeline in '
                'osar_plugin.PackPretrainInputs.')
        if not sample.paired:
            return False
    return True


def _counted(paired: bool, loss: Tensor) -> Tensor:
    return loss if paired else loss * 0


def _part(cfg: Buildable | None, **defaults: Any) -> Any:
    """Build an objective; its sizes come from the parts around it.

    Raises:
        ConfigError: If it names a size that does not fit.
    """
    if cfg is None:
        return None
    for name, value in defaults.items():
        if isinstance(value, int) and cfg.get(name, value) != value:
            raise ConfigError(
                f'{cfg.get("type")}.{name}={cfg[name]!r}, but the parts '
                f'that it is joined to have {value}. Leave it out.')
    return MODELS.build({**defaults, **cfg})


def _check_inputs(inputs: Any) -> None:
    if not isinstance(inputs, dict) or not set(MODALITIES) <= set(inputs):
        found = sorted(inputs) if isinstance(inputs, dict) else type(inputs)
        raise DataFormatError(
            f'inputs has {found}, expected rgb and sar: a pipeline that '
            'ends in osar_plugin.PackPretrainInputs, and '
            'osar_plugin.PairPretrainPreprocessor.')
    shapes = [tuple(inputs[name].shape) for name in MODALITIES]
    if shapes[0] != shapes[1]:
        raise DataFormatError(
            f'inputs: rgb is {shapes[0]} and sar {shapes[1]}; the same '
            'shape is needed. Crop both to one size in the pipeline.')
