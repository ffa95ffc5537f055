"""HiViT-MAE, and SARATR-X as a config of it.

Letters: B images, L units, N visible, M masked, D channels of the trunk, E
of the decoder, H W height and width in pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ...registry import MODELS
from ...utils.checkpoint import adapt_on_load
from ...utils.config_values import Buildable
from ...utils.errors import ConfigError, DataFormatError
from ..backbones.hierarchical import UNIT, gather_units
from ..backbones.trunk import check_word
from ..weights import SafeWeights
from .decoder import init_parts
from .masking import Masking, kept_units, masking_of
from .official import adapt_hivit_mae
from .reconstruction import masked_error
from .targets import describe, normalize_patches, patchify, target_channels


@MODELS.register_module()
class HiViTMAE(SafeWeights, BaseModel):
    """Masked auto-encoder on HiViT, for one sensor.

    The cells of all three stages of a visible unit, side by side, are its
    token for the decoder. With ``target='pixel'`` it is HiViT's own
    pre-training, with ``target='mgf'`` on SAR that of SARATR-X.

    Args:
        backbone: Config of an :class:`~osar_plugin.models.backbones.HiViT`
            with ``rpe=False``.
        decoder: Config of a :class:`~.decoder.MaskedDecoder` with
            ``mask_copies=1``.
        modality: Which image of a batch of pairs is used, ``'rgb'`` or
            ``'sar'``; also how it is made grey.
        target: ``'pixel'``, ``'hog'`` or ``'mgf'``.
        reduction: See :func:`~.targets.reduce_image`.
        mask_ratio: Share of units that the encoder does not see.
        norm_eps: Epsilon of the norm before the decoder.
        data_preprocessor: Config of the data preprocessor.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)``: a file of
            this model, the authors' or ours.

    Raises:
        ConfigError: If the parts do not fit together.
    """

    def __init__(self,
                 backbone: Buildable,
                 decoder: Buildable,
                 modality: str = 'rgb',
                 target: str = 'pixel',
                 reduction: str = 'none',
                 mask_ratio: float = 0.75,
                 norm_eps: float = 1e-6,
                 data_preprocessor: Buildable | None = None,
                 init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(
            data_preprocessor or dict(
                type='osar_plugin.PairPretrainPreprocessor'), init_cfg)
        check_word('modality', modality, ('rgb', 'sar'))
        self.modality = modality
        self.target = target
        self.reduction = reduction
        kept_units((decoder.get('img_size', 224) // UNIT)**2, mask_ratio)
        self.mask_ratio = mask_ratio
        self.backbone: Any = MODELS.build(backbone)
        values = target_channels(target, reduction) * UNIT**2
        self.decoder: Any = MODELS.build(dict(decoder, out_dim=values))
        # 16 cells of D/4, 4 of D/2 and 1 of D.
        width = 7 * self.backbone.embed_dim
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.embedding = nn.Linear(width, self.decoder.dim)
        adapt_on_load(self, adapt_hivit_mae)

    def init_weights(self) -> None:
        """Draw the official initialisation, then load ``init_cfg``."""
        init_parts(self.norm)
        init_parts(self.embedding)
        super().init_weights()

    def forward(self,
                inputs: Tensor | dict[str, Tensor],
                data_samples: Any = None,
                mode: str = 'tensor') -> Any:
        """Run the model the MMEngine way.

        Args:
            inputs: Images (B, 3, H, W), normalised, or a dict as
                :class:`~.codemae.CoDeMAE` takes it.
            data_samples: Not used.
            mode: ``'loss'`` gives the loss, ``'tensor'`` and ``'predict'``
                the trunk's tokens (B, L, D) of unmasked images.

        Raises:
            ConfigError: For another mode.
            DataFormatError: If the batch does not suit the model.
        """
        if not isinstance(inputs, dict):
            inputs = {self.modality: inputs}
        if self.modality not in inputs:
            raise DataFormatError(
                f'inputs has {sorted(inputs)}, but the model was built with '
                f'modality={self.modality!r}.')
        if mode == 'loss':
            return self.loss(inputs)
        if mode in ('tensor', 'predict'):
            images = inputs[self.modality]
            return self.backbone.trunk(
                self.backbone.embed(images), self.backbone.grid_of(images)
            ).tokens
        raise ConfigError(
            f"mode={mode!r} is none of 'loss', 'predict', 'tensor'.")

    def encode(self, images: Tensor, masking: Masking) -> Tensor:
        """Normalised tokens (B, N, 7 D) of the visible units."""
        output = self.backbone.trunk(
            self.backbone.embed(images), self.backbone.grid_of(images),
            masking.keep)
        return self.norm(torch.cat([
            output.cells4.flatten(2), output.cells8.flatten(2),
            output.tokens], dim=-1))

    def draw(self, inputs: dict[str, Tensor]) -> Masking:
        """The masking of a batch."""
        images = inputs[self.modality]
        grid = self.backbone.grid_of(images)
        return masking_of(
            inputs, images, grid[0] * grid[1], self.mask_ratio)

    def loss(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss of one batch, ``loss_self``."""
        images = inputs[self.modality]
        self.decoder.check_images(images)
        masking = self.draw(inputs)
        visible = self.embedding(self.encode(images, masking))
        prediction = self.decoder(visible, masking.keep, masking.masked)
        goal = self.targets(inputs, masking.masked)
        return dict(loss_self=masked_error(prediction, goal))

    @torch.no_grad()
    def targets(self, inputs: dict[str, Tensor],
                wanted: Tensor | None = None) -> Tensor:
        """Normalised target patches (B, M, V), by default of all units."""
        raw = inputs.get(f'{self.modality}01')
        patches = patchify(describe(
            self.target, self.reduction, inputs[self.modality], raw,
            self.modality))
        if wanted is not None:
            patches = gather_units(patches, wanted)
        return normalize_patches(patches)

    @torch.no_grad()
    def reconstruct(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        """``masking``, and ``self`` and ``self_target`` (B, L, V)."""
        masking = self.draw(inputs)
        visible = self.embedding(self.encode(inputs[self.modality], masking))
        return {
            'masking': masking,
            'self': self.decoder(visible, masking.keep).float(),
            'self_target': self.targets(inputs)}
