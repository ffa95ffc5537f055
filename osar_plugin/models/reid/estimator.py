"""The re-identification models: TransOSS, SDF-Net and their pre-training.

Letters: B batch (of all processes together in the losses), N tokens,
D channels, H W height and width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ...registry import MODELS
from ...structures import ReIDDataSample
from ...utils.checkpoint import adapt_on_load
from ...utils.config_values import Buildable, require_range
from ...utils.errors import ConfigError
from ..backbones import ViTOutput
from ..gather import gather_rows
from ..precision import full_precision
from ..weights import SafeWeights
from .alignment import fuse_views
from .dfl import ReIDFeatures
from .losses import build_loss, clip_loss
from .official import adapt


def _stack(samples: Sequence[ReIDDataSample], name: str) -> Tensor:
    return torch.tensor([getattr(s, name) for s in samples])


@MODELS.register_module()
class TransOSS(SafeWeights, BaseModel):
    """Ship re-identification across optical and SAR chips (TransOSS, MOS).

    One transformer with a tokenizer per sensor; the class token is
    classified behind a batch-norm neck and compared in front of it. MOS is
    the same model trained with ``alignment``, and evaluated with
    :class:`~osar_plugin.engine.PseudoSARHook`.

    Every loader of state dicts, MMEngine's included, accepts our keys, the
    authors' in each published layout and plain ViT files; see
    :mod:`osar_plugin.models.reid.official`.

    Args:
        backbone: Config of the transformer.
        neck: Config of what turns tokens into features.
        head: Config of the identity head.
        alignment: Config of :class:`ModalityAlignmentLoss` on the features
            that the head takes (MOS, CMAL), logged as ``loss_align``;
            ``None`` to leave it out.
        joint_batch: With several processes, classify and compare the batch
            of all of them: the loss and gradients of one process with the
            joint batch. ``False`` leaves each rank to its own rows, as the
            official multi-GPU training does.
        data_preprocessor: Config of the data preprocessor.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)`` starts from a
            file, which is read without unpickling.

    Raises:
        ConfigError: If the head takes another width than the neck gives.
    """

    def __init__(self,
                 backbone: Buildable,
                 neck: Buildable,
                 head: Buildable,
                 alignment: Buildable | None = None,
                 joint_batch: bool = True,
                 data_preprocessor: Buildable | None = None,
                 init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(
            data_preprocessor or dict(
                type='osar_plugin.ReIDDataPreprocessor'), init_cfg)
        self.backbone: Any = MODELS.build(backbone)
        self.neck: Any = MODELS.build(neck)
        self.head: Any = MODELS.build(head)
        self._check_widths()
        self.alignment = build_loss(alignment)
        self.joint_batch = joint_batch
        self.taps: tuple[int, ...] = ()
        adapt_on_load(self, adapt)

    def _check_widths(self) -> None:
        """The head must take what the neck gives; parts that say nothing pass.

        Raises:
            ConfigError: Naming the keys that disagree.
        """
        width = getattr(self.backbone, 'embed_dim', None)
        taken = getattr(self.head, 'in_channels', None)
        if width is None or taken is None or not hasattr(
                self.neck, 'out_channels'):
            return
        given = self.neck.out_channels(width)
        if taken != given:
            raise ConfigError(
                f'head.in_channels={taken}, but from the backbone with '
                f'embed_dim={width} the neck makes {given} channels. Set '
                f'model.head.in_channels={given}, or mend embed_dim.')

    def forward(self,
                inputs: Tensor,
                data_samples: list[ReIDDataSample] | None = None,
                mode: str = 'tensor') -> Any:
        """Run the model the MMEngine way.

        Args:
            inputs: (B, 3, H, W), normalised.
            data_samples: B samples with modality and size, in training
                also label.
            mode: ``'loss'`` gives a dict of losses, ``'predict'`` the
                samples with ``feature`` set, ``'tensor'`` descriptors
                (B, D).
        """
        if data_samples is None:
            raise ConfigError(
                'data_samples is None, but each image needs its modality and '
                'size. Use extract_feat(images, modality, size) on tensors.')
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            modality, size = self._conditions(inputs, data_samples)
            return self.extract_feat(inputs, modality, size)
        raise ConfigError(
            f"mode={mode!r} is none of 'loss', 'predict', 'tensor'.")

    def extract_feat(self,
                     images: Tensor,
                     modality: Tensor,
                     size: Tensor | None = None) -> Tensor:
        """Descriptors for retrieval, not normalised.

        Args:
            images: (B, 3, H, W), normalised.
            modality: (B,) long, 0 optical, 1 SAR.
            size: (B, 3) ship-size vectors.

        Returns:
            (B, D) float32.
        """
        _, features = self._encode(images, modality, size)
        return self._describe(features.fused)

    def fuse(self, optical: Tensor, views: Tensor, tau: float) -> Tensor:
        """Blend descriptors (B, D) with those of pseudo-SAR views.

        See :func:`~.alignment.fuse_views`, whose arguments and result these
        are. It is a method so that whoever runs a model, whichever it is,
        need not know how its descriptors blend.
        """
        return fuse_views(optical, views, tau)

    def predict(self, inputs: Tensor,
                data_samples: list[ReIDDataSample]) -> list[ReIDDataSample]:
        """Set ``feature`` (D,) of each sample, on the host."""
        modality, size = self._conditions(inputs, data_samples)
        # One copy for the batch; B small ones would each wait.
        features = self.extract_feat(inputs, modality, size).cpu()
        for sample, feature in zip(data_samples, features, strict=True):
            sample.feature = feature
        return data_samples

    def loss(self, inputs: Tensor,
             data_samples: list[ReIDDataSample]) -> dict[str, Tensor]:
        """Losses of one training batch."""
        labels = _stack(data_samples, 'label')
        self.head.check_labels(labels)
        modality, size = self._conditions(inputs, data_samples)
        output, features = self._encode(inputs, modality, size)
        parts = self._parts(output, features)
        parts['labels'] = labels.to(inputs.device)
        parts['modality'] = modality
        if self.joint_batch:
            parts = {k: gather_rows(v) for k, v in parts.items()}
        return self._losses(parts)

    def _parts(self, output: ViTOutput,
               features: ReIDFeatures) -> dict[str, Tensor]:
        """Collect the (B, ...) tensors that the losses read."""
        return dict(fused=features.fused)

    def _losses(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of the (joint) batch."""
        fused, labels = parts['fused'], parts['labels']
        losses: dict[str, Tensor] = full_precision(self.head.loss)(
            fused, labels)
        if self.alignment is not None:
            losses['loss_align'] = self.alignment(
                fused, labels, parts['modality'])
        return losses

    def _encode(self, images: Tensor, modality: Tensor,
                size: Tensor | None) -> tuple[ViTOutput, ReIDFeatures]:
        output = self.backbone(images, modality, size, self.taps)
        return output, self.neck(output.tokens)

    def _describe(self, fused: Tensor) -> Tensor:
        return full_precision(self.head)(fused)

    def _conditions(
            self, inputs: Tensor, data_samples: list[ReIDDataSample]
    ) -> tuple[Tensor, Tensor | None]:
        """Modality (B,) and size (B, 3) of a batch, on its device."""
        modality = _stack(data_samples, 'modality').to(
            inputs.device, non_blocking=True)
        if self.backbone.size_embed is None:
            return modality, None
        size = torch.stack([sample.size for sample in data_samples])
        return modality, size.to(inputs.device, non_blocking=True)


@MODELS.register_module()
class SDFNet(TransOSS):
    """Structure-aware disentangled feature learning (SDF-Net).

    TransOSS with two additions, each of which can be left out: structure
    consistency on an intermediate block (SCL) and disentangled features
    (DFL). Defaults of the parts are those of the released code; the paper's
    are one argument away; ``configs/README.md`` lists them.

    Args:
        backbone: Config of the transformer; ``modality_token=True`` for the
            released form of DFL.
        neck: :class:`DisentangledNeck`, or :class:`ClassTokenNeck` to leave
            DFL out.
        head: Config of the identity head.
        structure: Config of :class:`StructureConsistency`, ``None`` to
            leave SCL out.
        loss_orth: Config of the orthogonality loss between shared and
            specific features; needs a neck that separates them.
        **kwargs: See :class:`TransOSS`.

    Raises:
        ConfigError: If the structure layer is not in the backbone.
    """

    def __init__(self,
                 backbone: Buildable,
                 neck: Buildable,
                 head: Buildable,
                 structure: Buildable | None = None,
                 loss_orth: Buildable | None = None,
                 **kwargs: Any) -> None:
        super().__init__(backbone, neck, head, **kwargs)
        self.structure = build_loss(structure)
        self.loss_orth = build_loss(loss_orth)
        if self.structure is not None:
            if not 1 <= self.structure.layer <= self.backbone.depth:
                raise ConfigError(
                    f'structure.layer={self.structure.layer}, but the '
                    f'backbone has blocks 1 to {self.backbone.depth}.')
            self.taps = (self.structure.layer, )

    def _parts(self, output: ViTOutput,
               features: ReIDFeatures) -> dict[str, Tensor]:
        parts = super()._parts(output, features)
        if self.structure is not None:
            maps = self.backbone.patch_map(output.taps[self.structure.layer])
            parts['structure'] = self.structure.describe(maps)
        if self.loss_orth is not None:
            if features.shared is None or features.specific is None:
                raise ConfigError(
                    'loss_orth needs a neck with shared and specific '
                    'features, such as osar_plugin.DisentangledNeck.')
            parts['shared'] = features.shared
            parts['specific'] = features.specific
        return parts

    def _losses(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        losses = super()._losses(parts)
        if self.loss_orth is not None:
            losses['loss_orth'] = self.loss_orth(
                parts['shared'], parts['specific'])
        if self.structure is not None:
            losses['loss_struct'] = self.structure(
                parts['structure'], parts['labels'], parts['modality'])
        return losses


@MODELS.register_module()
class TransOSSPretrain(SafeWeights, BaseModel):
    """Contrastive pre-training of the backbone on aligned pairs.

    CLIP-style: the class tokens of the two images of a pair are pulled
    together against the other pairs of the batch (official
    ``train_pair.py``).

    Args:
        backbone: Config of the transformer, ``size_token=False``.
        init_logit_scale: Start of the learned logarithm of the inverse
            temperature.
        joint_batch: Take negatives from all processes. The official
            training keeps to its own (``False``).
        data_preprocessor: Config of the data preprocessor.
        init_cfg: See :class:`TransOSS`; here usually a plain ViT file.
    """

    def __init__(self,
                 backbone: Buildable,
                 init_logit_scale: float = math.log(1 / 0.07),
                 joint_batch: bool = False,
                 data_preprocessor: Buildable | None = None,
                 init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(
            data_preprocessor or dict(
                type='osar_plugin.ReIDDataPreprocessor'), init_cfg)
        # Beyond, the exponential of the first step overflows or vanishes.
        require_range(-20, 20, init_logit_scale=init_logit_scale)
        self.backbone: Any = MODELS.build(backbone)
        self.logit_scale = nn.Parameter(torch.tensor(init_logit_scale))
        self.joint_batch = joint_batch
        adapt_on_load(self, adapt)

    def extract_feat(self,
                     images: Tensor,
                     modality: Tensor,
                     size: Tensor | None = None) -> Tensor:
        """Class tokens (B, D) float32 of images (B, 3, H, W)."""
        return self.backbone(images, modality, size).tokens[:, 0].float()

    def forward(self,
                inputs: dict[str, Tensor],
                data_samples: Any = None,
                mode: str = 'tensor') -> Any:
        """Run the model the MMEngine way.

        Args:
            inputs: ``optical`` and ``sar``, (B, 3, H, W) each, row i of
                both showing the same ground.
            data_samples: Not used.
            mode: ``'loss'`` gives the contrastive loss, ``'tensor'`` and
                ``'predict'`` the two class tokens (B, D).
        """
        images = torch.cat([inputs['optical'], inputs['sar']])
        half = len(inputs['optical'])
        # Optical first; made on the device, so nothing is copied.
        modality = torch.arange(len(images), device=images.device) // half
        optical, sar = self.extract_feat(images, modality).split(half)
        if mode != 'loss':
            return optical, sar
        if self.joint_batch:
            optical, sar = gather_rows(optical), gather_rows(sar)
        return dict(loss_clip=clip_loss(optical, sar, self.logit_scale))
