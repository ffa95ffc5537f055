"""The optical-to-SAR translator: training and sampling of the bridge.

Letters: B images, K views of each, N = B K items, C channels of the space
that the bridge lives in, H W its height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ...registry import MODELS
from ...utils.checkpoint import LoadReport, adapt_on_load
from ...utils.config_values import Buildable
from ...utils.errors import ConfigError, DataFormatError
from .bridge import (
    LOSSES,
    OBJECTIVES,
    bridge_loss,
    check_choice,
    q_sample,
    training_target,
)
from .official import adapt, load_translator, pretrained_file
from .sampling import item_generators, sample, view_seeds
from .schedule import bridge_schedule, step_list

CONDITIONS = ('none', 'source', 'rescaled')


@dataclass(frozen=True)
class SamplerSettings:
    """How views are drawn; together with the weights, what decides them.

    Attributes:
        views: K, samples of each image; 5 as published.
        steps: Time steps visited, see :func:`~.schedule.step_list`; ``None``
            for all.
        spacing: See there.
        eta: Factor of the noise, see :func:`~.sampling.sample`.
        clip: Keep predicted targets within -1..1 on the way.
        salt: Other numbers give other views of the same image.
        grey: Give all three channels their mean. SAR has one channel; the
            three that the network predicts agree once it is fully trained.
        max_items: Views that go through the network at once; ``None`` for
            all of a batch. It does not change which noise a view gets.

    Raises:
        ConfigError: If there are no views or no items.
    """

    views: int = 5
    steps: int | None = 200
    spacing: str = 'linear'
    eta: float = 1.
    clip: bool = False
    salt: int = 0
    grey: bool = False
    max_items: int | None = None

    def __post_init__(self) -> None:
        if self.views < 1:
            raise ConfigError(f'views={self.views}: at least 1 is needed.')
        if self.max_items is not None and self.max_items < 1:
            raise ConfigError(
                f'max_items={self.max_items}: at least 1, or None for all.')


@MODELS.register_module()
class BrownianBridgeTranslator(BaseModel):
    """Optical-to-SAR translation with a Brownian bridge (BBDM).

    In pixel space, or in the latent space of ``codec``, which is frozen.
    Every loader of state dicts accepts our keys and BBDM's; see
    :mod:`osar_plugin.models.translation.official`.

    Args:
        denoiser: Config of the network, such as :class:`BridgeUNet`.
        codec: Config of the codec, such as :class:`VQCodec`; ``None`` for
            pixel space.
        schedule: Arguments of :func:`~.schedule.bridge_schedule`.
        objective: What the network predicts: ``'grad'`` (published),
            ``'noise'`` or ``'ysubx'``.
        loss: ``'l1'`` (published) or ``'l2'``.
        condition: What the network sees beside x_t: ``'none'`` (published
            for latents), ``'source'``, the optical side of the bridge
            (published for pixels), or ``'rescaled'``, the optical image
            shrunk and mapped by a learned 1 x 1 convolution (official
            ``SpatialRescaler``).
        normalize_latent: Standardise latents with statistics that the
            checkpoint holds (official ``normalize_latent``), or that
            ``osar_plugin.LatentStatisticsHook`` measures before training.
        sampler: Arguments of :class:`SamplerSettings`.
        data_preprocessor: Config of the data preprocessor; by default
            pixels become -1..1.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)`` starts from a
            file of ours or of BBDM, which is read without unpickling; with
            ``optional=True`` a missing file is a warning.

    Attributes:
        load_report: What became of the weights loaded last.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    init_cfg: Any
    m_t: Tensor
    variance_t: Tensor
    load_report: LoadReport | None = None

    def __init__(self,
                 denoiser: Buildable,
                 codec: Buildable | None = None,
                 schedule: dict[str, Any] | None = None,
                 objective: str = 'grad',
                 loss: str = 'l1',
                 condition: str = 'none',
                 normalize_latent: bool = False,
                 sampler: dict[str, Any] | None = None,
                 data_preprocessor: Buildable | None = None,
                 init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(
            data_preprocessor or dict(
                type='osar_plugin.ReIDDataPreprocessor',
                mean=(0.5, ) * 3,
                std=(0.5, ) * 3), init_cfg)
        self.objective = check_choice('objective', objective, OBJECTIVES)
        self.loss_kind = check_choice('loss', loss, LOSSES)
        self.condition = check_choice('condition', condition, CONDITIONS)
        self.schedule = bridge_schedule(**(schedule or {}))
        self.sampler = SamplerSettings(**(sampler or {}))
        # Refuses a number of steps that the schedule does not have.
        self.steps(self.sampler)
        self.denoiser: Any = MODELS.build(denoiser)
        self.codec: Any = None if codec is None else MODELS.build(codec)
        self.rescaler: nn.Conv2d | None = None
        if condition == 'rescaled':
            self.rescaler = nn.Conv2d(
                3, self.denoiser.context_channels, 1, bias=False)
        self._register_buffers(normalize_latent)
        adapt_on_load(self, adapt)

    def _register_buffers(self, normalize_latent: bool) -> None:
        for name in ('m_t', 'variance_t'):
            self.register_buffer(
                name, getattr(self.schedule, name), persistent=False)
        if normalize_latent and self.codec is None:
            raise ConfigError(
                'normalize_latent=True, but there is no codec and so no '
                'latent: set it to False.')
        self.normalize_latent = normalize_latent
        if normalize_latent:
            shape = (1, self.codec.latent_channels, 1, 1)
            for side in ('optical', 'sar'):
                self.register_buffer(
                    f'{side}_latent_mean', torch.zeros(shape))
                self.register_buffer(f'{side}_latent_std', torch.ones(shape))

    def init_weights(self) -> None:
        """Initialise, then read the files that ``init_cfg`` names."""
        init_cfg, self.init_cfg = self.init_cfg, None
        super().init_weights()
        self.init_cfg = init_cfg
        path = pretrained_file(init_cfg, 'model')
        if path is not None:
            load_translator(self, path)

    def steps(self, settings: SamplerSettings) -> list[int]:
        """The time steps that sampling with these settings visits."""
        return step_list(
            self.schedule.num_timesteps, settings.steps, settings.spacing)

    def forward(self,
                inputs: Tensor | dict[str, Tensor],
                data_samples: Sequence[BaseDataElement] | None = None,
                mode: str = 'tensor') -> Any:
        """Run the model the MMEngine way.

        Args:
            inputs: ``optical`` and, in training, ``sar``: (B, 3, H, W) each
                in -1..1, row i of both showing the same ship or ground; or
                the optical images alone.
            data_samples: B samples; needed for ``'predict'``.
            mode: ``'loss'`` gives the loss, ``'predict'`` the samples with
                ``views`` set, ``'tensor'`` the views (B, K, 3, H, W).

        Raises:
            ConfigError: For another mode.
            DataFormatError: If an image is missing or not optical.
        """
        if mode == 'loss':
            return self.loss(inputs)
        optical = self._optical(inputs, data_samples)
        if mode == 'tensor':
            return self.translate(optical)
        if mode == 'predict':
            return self.predict(optical, data_samples)
        raise ConfigError(
            f"mode={mode!r} is none of 'loss', 'predict', 'tensor'.")

    def loss(self, inputs: Any) -> dict[str, Tensor]:
        """Loss of one training batch of pairs."""
        if not isinstance(inputs, dict) or not {'optical', 'sar'} <= set(
                inputs):
            raise DataFormatError(
                'Training needs pairs: inputs with optical and sar, as '
                'osar_plugin.PackPairInputs makes them.')
        y = self.encode(inputs['optical'], 'optical')
        x0 = self.encode(inputs['sar'], 'sar')
        t = torch.randint(
            self.schedule.num_timesteps, (len(y), ), device=y.device)
        noise = torch.randn_like(x0)
        m = self.m_t[t].view(-1, 1, 1, 1)
        d = self.variance_t[t].view(-1, 1, 1, 1)
        x_t = q_sample(x0, y, noise, m, d)
        prediction = self.denoiser(
            x_t, t, self._context(inputs['optical'], y))
        target = training_target(self.objective, x0, y, noise, m, d)
        return dict(loss_bridge=bridge_loss(
            prediction.float(), target, self.loss_kind))

    def predict(
        self, optical: Tensor,
        data_samples: Sequence[BaseDataElement] | None
    ) -> Sequence[BaseDataElement]:
        """Set ``views`` (K, 3, H, W) uint8 of each sample, on the host."""
        if data_samples is None or len(data_samples) != len(optical):
            raise DataFormatError(
                f'{len(optical)} images and '
                f'{0 if data_samples is None else len(data_samples)} data '
                'samples: each image needs one. Use translate(images) on '
                'tensors.')
        # One copy for the batch; B small ones would each wait.
        views = to_uint8(self.translate(optical)).cpu()
        for element, own in zip(data_samples, views, strict=True):
            element.views = own
        return data_samples

    @torch.no_grad()
    def translate(self,
                  optical: Tensor,
                  seeds: Sequence[Sequence[int]] | None = None,
                  settings: SamplerSettings | None = None) -> Tensor:
        """Draw SAR-like views of optical images.

        All views of all images go through the network together. A view is a
        function of its image, its seed, the weights and the settings: the
        same in any batch, order or process.

        Args:
            optical: (B, 3, H, W) in -1..1.
            seeds: K numbers for each image; by default from its content,
                see :func:`~.sampling.view_seeds`.
            settings: In place of the model's own.

        Returns:
            (B, K, 3, H, W) float32, about -1..1.

        Raises:
            DataFormatError: If the seeds do not fit the images.
        """
        settings = settings or self.sampler
        if seeds is None:
            seeds = [view_seeds(image, settings.views, settings.salt)
                     for image in optical]
        if [len(row) for row in seeds] != [settings.views] * len(optical):
            raise DataFormatError(
                f'Expected {settings.views} seeds for each of '
                f'{len(optical)} images, got {[len(row) for row in seeds]}.')
        y = self.encode(optical, 'optical')
        context = self._context(optical, y)
        flat = [seed for row in seeds for seed in row]
        # Rows of the views: image 0 K times, image 1 K times, ...
        rows = torch.arange(len(flat), device=y.device) // settings.views
        drawn = [
            self._sample(y, context, part, flat[start:start + len(part)],
                         settings)
            for start, part in _chunks(rows, settings.max_items)]
        return torch.cat(drawn).unflatten(0, (len(optical), settings.views))

    def _sample(self, y: Tensor, context: Tensor | None, rows: Tensor,
                seeds: Sequence[int], settings: SamplerSettings) -> Tensor:
        """Views (N, 3, H, W) of the images (B, C, h, w) at ``rows`` (N,)."""
        images, rows = rows.unique(return_inverse=True)
        if context is not None:
            context = context[images]

        def denoise(x: Tensor, t: Tensor, own: Tensor) -> Tensor:
            return self.denoiser(
                x, t, None if context is None else context[own])

        latent = sample(
            denoise, y[images], self.schedule, self.steps(settings),
            item_generators(seeds), self.objective, settings.eta,
            settings.clip, rows)
        views = self.decode(latent)
        if settings.grey:
            views = views.mean(dim=1, keepdim=True).expand_as(views)
        return views

    @torch.no_grad()
    def encode(self, images: Tensor, side: str) -> Tensor:
        """Images (B, 3, H, W) of a side to the bridge's space, float32."""
        if self.codec is None:
            return images.float()
        latent = self.codec.encode(images).float()
        if self.normalize_latent:
            mean, std = self._statistics(side)
            latent = (latent - mean) / std
        return latent

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """The bridge's space to SAR images (B, 3, H, W), float32."""
        if self.codec is None:
            return latent
        if self.normalize_latent:
            mean, std = self._statistics('sar')
            latent = latent * std + mean
        return self.codec.decode(latent).float()

    def _statistics(self, side: str) -> tuple[Tensor, Tensor]:
        return (getattr(self, f'{side}_latent_mean'),
                getattr(self, f'{side}_latent_std'))

    def _context(self, optical: Tensor, y: Tensor) -> Tensor | None:
        """What the network sees beside x_t."""
        if self.condition == 'none':
            return None
        if self.rescaler is None:
            return y
        for _ in range(self._halvings()):
            optical = F.interpolate(
                optical, scale_factor=0.5, mode='bilinear')
        return self.rescaler(optical)

    def _halvings(self) -> int:
        factor = 1 if self.codec is None else self.codec.factor
        return factor.bit_length() - 1

    @staticmethod
    def _optical(
        inputs: Tensor | dict[str, Tensor],
        data_samples: Sequence[BaseDataElement] | None
    ) -> Tensor:
        """The optical images of a batch."""
        optical = inputs.get('optical') if isinstance(inputs, dict) \
            else inputs
        if optical is None:
            raise DataFormatError(
                f'inputs has {sorted(inputs)}: the translator starts from '
                "optical images, under the key 'optical'.")
        for i, element in enumerate(data_samples or ()):
            if getattr(element, 'modality', 0) != 0:
                name = element.metainfo.get('img_path', f'Image {i}')
                raise DataFormatError(
                    f'{name}: this is a SAR image; the translator turns '
                    'optical images into SAR. Take SAR out of its inputs.')
        return optical


def _chunks(rows: Tensor,
            most: int | None) -> list[tuple[int, Tensor]]:
    """(start, part) of rows in parts of at most so many."""
    parts = rows.split(most or max(len(rows), 1))
    size = most or len(rows)
    return [(i * size, part) for i, part in enumerate(parts)]


def to_uint8(images: Tensor) -> Tensor:
    """-1..1 to 0..255, rounded; the released code saves images so."""
    scaled = images.mul(0.5).add(0.5).clamp(0, 1)
    return scaled.mul(255).add(0.5).to(torch.uint8)
