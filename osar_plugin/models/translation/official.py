"""Checkpoints of BBDM and of latent diffusion, both ways.

Accepted by every loader of state dicts:

* BBDM files: a dict with ``model`` (``denoise_fn.*``, ``vqgan.*``,
  ``cond_stage_model.*`` and the schedule) and ``ema``, the averaged weights
  that the authors sample with. Where both are there, the averaged ones are
  taken.
* latent-diffusion files of the VQ codec (``encoder.*``, ``decoder.*``,
  ``quantize.*``), for the codec alone;
* ours.

The schedule that a BBDM file carries must be the model's: it is compared.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ...utils.checkpoint import (
    LoadReport,
    compare,
    read_checkpoint,
    unwrap_state_dict,
)
from ...utils.errors import (
    CheckpointError,
    CheckpointMismatchError,
    ConfigError,
)

RES_BLOCK = {
    'in_layers.0': 'norm1', 'in_layers.2': 'conv1',
    'emb_layers.1': 'time_emb_proj', 'out_layers.0': 'norm2',
    'out_layers.3': 'conv2', 'skip_connection': 'conv_shortcut'}
CODEC_BLOCK = {
    'norm1': 'norm1', 'conv1': 'conv1', 'norm2': 'norm2', 'conv2': 'conv2',
    'nin_shortcut': 'conv_shortcut'}
SCHEDULE = (
    'm_t', 'm_tminus', 'variance_t', 'variance_tminus', 'variance_t_tminus',
    'posterior_variance_t')
# Their names of the latents' statistics: `ori` is the target.
STATISTICS = {
    'ori_latent_mean': 'sar_latent_mean', 'ori_latent_std': 'sar_latent_std',
    'cond_latent_mean': 'optical_latent_mean',
    'cond_latent_std': 'optical_latent_std'}


class Module(NamedTuple):
    """A layer of ours.

    Attributes:
        name: Its name.
        extra_dims: Axes of length 1 that the authors' weight has at the end
            (a convolution where ours is linear).
        head: Channels of a head, where the authors have query, key and value
            of all heads in one layer.
    """

    name: str
    extra_dims: int = 0
    head: int = 0


Modules = dict[str, Module]


def _block(theirs: str, ours: str, table: dict[str, str]) -> Modules:
    return {f'{theirs}.{a}': Module(f'{ours}.{b}') for a, b in table.items()}


def _unet_attention(theirs: str, ours: str, head: int) -> Modules:
    return {
        f'{theirs}.norm': Module(f'{ours}.group_norm'),
        f'{theirs}.qkv': Module(ours, 1, head),
        f'{theirs}.proj_out': Module(f'{ours}.to_out.0', 1)}


def unet_modules(unet: Any) -> Modules:
    """Layers of the authors' UNet and ours.

    Args:
        unet: A ``diffusers.UNet2DModel``.
    """
    config = unet.config
    blocks, head = config.layers_per_block, config.attention_head_dim
    attends = ['Attn' in name for name in config.down_block_types]
    last = len(attends) - 1
    table: Modules = {
        'time_embed.0': Module('time_embedding.linear_1'),
        'time_embed.2': Module('time_embedding.linear_2'),
        'input_blocks.0.0': Module('conv_in'),
        'out.0': Module('conv_norm_out'),
        'out.2': Module('conv_out')}

    def add(theirs: str, side: str, number: int, attention: bool) -> None:
        table.update(_block(
            f'{theirs}.0', f'{side}.resnets.{number}', RES_BLOCK))
        if attention:
            table.update(_unet_attention(
                f'{theirs}.1', f'{side}.attentions.{number}', head))

    place = 1
    for level, attention in enumerate(attends):
        for number in range(blocks):
            add(f'input_blocks.{place}', f'down_blocks.{level}', number,
                attention)
            place += 1
        if level < last:
            table.update(_block(
                f'input_blocks.{place}.0',
                f'down_blocks.{level}.downsamplers.0', RES_BLOCK))
            place += 1
    for number, theirs in enumerate((0, 2)):
        table.update(_block(
            f'middle_block.{theirs}', f'mid_block.resnets.{number}',
            RES_BLOCK))
    table.update(_unet_attention(
        'middle_block.1', 'mid_block.attentions.0', head))
    place = 0
    for up, attention in enumerate(reversed(attends)):
        for number in range(blocks + 1):
            add(f'output_blocks.{place}', f'up_blocks.{up}', number,
                attention)
            if number == blocks and up < last:
                table.update(_block(
                    f'output_blocks.{place}.{1 + attention}',
                    f'up_blocks.{up}.upsamplers.0', RES_BLOCK))
            place += 1
    return table


def _codec_attention(theirs: str, ours: str) -> Modules:
    names = {'q': 'to_q', 'k': 'to_k', 'v': 'to_v', 'proj_out': 'to_out.0'}
    return {
        f'{theirs}.norm': Module(f'{ours}.group_norm'),
        **{f'{theirs}.{a}': Module(f'{ours}.{b}', 2)
           for a, b in names.items()}}


def codec_modules(vq: Any) -> Modules:
    """Layers of latent diffusion's VQ codec and ours.

    Args:
        vq: A ``diffusers.VQModel``.
    """
    config = vq.config
    levels, blocks = len(config.block_out_channels), config.layers_per_block
    same = ('quantize.embedding', 'quant_conv', 'post_quant_conv')
    table: Modules = {name: Module(name) for name in same}
    for side, stage, sizer in (('encoder', 'down', 'downsample'),
                               ('decoder', 'up', 'upsample')):
        table[f'{side}.conv_in'] = Module(f'{side}.conv_in')
        table[f'{side}.norm_out'] = Module(f'{side}.conv_norm_out')
        table[f'{side}.conv_out'] = Module(f'{side}.conv_out')
        middle = f'{side}.mid_block'
        for number in range(2):
            table.update(_block(
                f'{side}.mid.block_{number + 1}',
                f'{middle}.resnets.{number}', CODEC_BLOCK))
        table.update(_codec_attention(
            f'{side}.mid.attn_1', f'{middle}.attentions.0'))
        for level in range(levels):
            up = stage == 'up'
            # Theirs counts both ways from the image, ours in the order of
            # execution.
            place = levels - 1 - level if up else level
            ours = f'{side}.{stage}_blocks.{place}'
            for number in range(blocks + up):
                table.update(_block(
                    f'{side}.{stage}.{level}.block.{number}',
                    f'{ours}.resnets.{number}', CODEC_BLOCK))
                table.update(_codec_attention(
                    f'{side}.{stage}.{level}.attn.{number}',
                    f'{ours}.attentions.{number}'))
            table[f'{side}.{stage}.{level}.{sizer}.conv'] = Module(
                f'{ours}.{sizer}rs.0.conv')
    return table


def from_official(state_dict: Mapping[str, Tensor],
                  modules: Modules) -> dict[str, Tensor]:
    """Rename the authors' entries of one part to ours.

    Args:
        state_dict: Entries of the part, without its prefix. What the table
            does not know keeps its name.
        modules: See :func:`unet_modules` and :func:`codec_modules`.
    """
    out: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        name, _, kind = key.rpartition('.')
        module = modules.get(name)
        if module is None:
            out[key] = value
            continue
        if kind == 'weight' and module.extra_dims:
            value = value.flatten(1)
        if module.head:
            out.update(_split_heads(value, module, kind))
        else:
            out[f'{module.name}.{kind}'] = value
    return out


def _split_heads(value: Tensor, module: Module,
                 kind: str) -> dict[str, Tensor]:
    """Query, key and value of (heads x 3 x head, ...) rows."""
    parts = value.unflatten(0, (-1, 3, module.head))
    return {
        f'{module.name}.to_{name}.{kind}': parts[:, i].flatten(0, 1)
        for i, name in enumerate('qkv')}


def to_official(state_dict: Mapping[str, Tensor],
                modules: Modules) -> dict[str, Tensor]:
    """The inverse of :func:`from_official`."""
    left = dict(state_dict)
    out: dict[str, Tensor] = {}
    for name, module in modules.items():
        for kind in ('weight', 'bias'):
            if module.head:
                keys = [f'{module.name}.to_{x}.{kind}' for x in 'qkv']
            else:
                keys = [f'{module.name}.{kind}']
            if keys[0] not in left:
                continue
            parts = [left.pop(key) for key in keys]
            if module.head:
                parts = [torch.stack(
                    [p.unflatten(0, (-1, module.head)) for p in parts],
                    dim=1).flatten(0, 2)]
            value = parts[0]
            if kind == 'weight':
                value = value[(..., ) + (None, ) * module.extra_dims]
            out[f'{name}.{kind}'] = value
    return {**out, **left}


def is_official(state_dict: Mapping[str, Any]) -> bool:
    """Whether the keys are those of a BBDM file."""
    return any(
        key.startswith(('denoise_fn.', 'vqgan.')) for key in state_dict)


def unwrap(content: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of a checkpoint; averaged ones where it has them.

    Args:
        content: What a file holds: a BBDM dict, one of MMEngine or a state
            dict.
    """
    weights = unwrap_state_dict(content)
    average = content.get('ema')
    if isinstance(content.get('model'), Mapping) and isinstance(
            average, Mapping) and average:
        average = {k.removeprefix('module.'): v for k, v in average.items()}
        print_log(
            f'The file has averaged weights (ema) of {len(average)} tensors: '
            "they are used, as in the authors' sampling.",
            logger='current')
        weights.update(average)
    weights.update({
        key: value for key, value in content.items()
        if key in STATISTICS and isinstance(value, Tensor)})
    return weights


def _parts(model: Any) -> Iterator[tuple[str, str, Modules]]:
    """Prefix of the authors', of ours, and the table of each part."""
    yield 'denoise_fn.', 'denoiser.unet.', unet_modules(model.denoiser.unet)
    vq = getattr(model.codec, 'vq', None)
    if vq is not None:
        yield 'vqgan.', 'codec.vq.', codec_modules(vq)


RESCALER = ('cond_stage_model.channel_mapper.weight', 'rescaler.weight')


def translator_from_official(state_dict: Mapping[str, Tensor],
                             model: Any) -> dict[str, Tensor]:
    """Rename a BBDM state dict to the keys of a translator.

    Args:
        state_dict: Of a BBDM model.
        model: A :class:`~.translator.BrownianBridgeTranslator`.

    Raises:
        CheckpointMismatchError: If the file is of a latent model and the
            translator works on pixels, or if the schedules differ.
    """
    source = dict(state_dict)
    if not hasattr(model.codec, 'vq') and any(
            k.startswith('vqgan.') for k in source):
        raise CheckpointMismatchError(
            'The checkpoint is of a latent-space model (it has vqgan.*), the '
            'config is of one without a VQ codec: model.codec is '
            f'{type(model.codec).__name__}. Use the config of its variant, '
            'e.g. configs/bbdm_hoss.py for f4.')
    own = model.schedule.tensors()
    for name in SCHEDULE:
        value = source.pop(name, None)
        if value is not None and not (
                value.shape == own[name].shape
                and torch.allclose(value.cpu().float(), own[name],
                                   rtol=1e-4, atol=1e-6)):
            raise CheckpointMismatchError(
                f'The checkpoint was trained with another schedule: its '
                f'{name} has {value.numel()} steps, the last '
                f"{float(value[-1]):g}; the model's {own[name].numel()}, "
                f'the last {float(own[name][-1]):g}. Set model.schedule '
                '(kind, num_timesteps, max_var) accordingly.')
    out: dict[str, Tensor] = {}
    for theirs, ours, modules in _parts(model):
        part = {k[len(theirs):]: source.pop(k)
                for k in list(source) if k.startswith(theirs)}
        # Latent diffusion trains its codec with a discriminator.
        part = {k: v for k, v in part.items() if not k.startswith('loss.')}
        out.update({
            ours + k: v for k, v in from_official(part, modules).items()})
    for theirs, ours in ((RESCALER), *STATISTICS.items()):
        if theirs in source:
            out[ours] = source.pop(theirs)
    return {**out, **source}


def translator_to_official(model: Any) -> dict[str, Tensor]:
    """A translator's weights as BBDM's ``model`` entry, complete.

    Its schedule goes along; statistics of the latents, which BBDM keeps
    beside the weights, are under their names there.

    Raises:
        ConfigError: If the translator has a codec that BBDM does not have.
    """
    if model.codec is not None and not hasattr(model.codec, 'vq'):
        raise ConfigError(
            f'model.codec is a {type(model.codec).__name__}: BBDM has only '
            'the VQ codec, and none. Share the file as it is.')
    state = model.state_dict()
    out = {k: v.clone() for k, v in model.schedule.tensors().items()}
    for theirs, ours, modules in _parts(model):
        part = {k[len(ours):]: v
                for k, v in state.items() if k.startswith(ours)}
        out.update({
            theirs + k: v for k, v in to_official(part, modules).items()})
    for theirs, ours in (RESCALER, *STATISTICS.items()):
        if ours in state:
            out[theirs] = state[ours]
    return out


def adapt(content: Mapping[str, Any],
          model: nn.Module) -> tuple[dict[str, Tensor], LoadReport]:
    """Bring a checkpoint of any accepted layout to a translator's keys.

    Args:
        content: What a file holds.
        model: The receiver; not changed.

    Returns:
        The state dict and the report on it.

    Raises:
        CheckpointMismatchError: See :func:`translator_from_official` and
            :func:`~osar_plugin.utils.checkpoint.compare`.
    """
    source = unwrap(content)
    if is_official(source):
        source = translator_from_official(source, model)
    for name in STATISTICS.values():
        own = getattr(model, name, None)
        if name in source and own is not None:
            source[name] = source[name].reshape(own.shape)
    return source, compare(source, model)


def adapt_codec(content: Mapping[str, Any],
                codec: Any) -> tuple[dict[str, Tensor], LoadReport]:
    """Bring a latent-diffusion file, or one of ours, to a codec's keys."""
    source = {
        key.removeprefix('vqgan.'): value
        for key, value in unwrap_state_dict(content).items()
        if isinstance(value, Tensor)}
    if not any(key.startswith('vq.') for key in source):
        source = {
            k: v for k, v in source.items() if not k.startswith('loss.')}
        source = {
            f'vq.{k}': v for k, v in from_official(
                source, codec_modules(codec.vq)).items()}
    return source, compare(source, codec)


class _Inert:
    """Stand-in for classes of trainers that files name and nobody needs."""


def read_foreign(path: str | Path) -> dict[str, Any]:
    """Read a file that latent diffusion's trainer may have written.

    Such files use the trainer's callback class as a key; it is replaced by
    a class that does nothing. Everything else is as in
    :func:`~osar_plugin.utils.checkpoint.read_checkpoint`.
    """
    names = [
        f'{package}.callbacks.model_checkpoint.ModelCheckpoint'
        for package in ('pytorch_lightning', 'lightning.pytorch')]
    admitted: list[Any] = [(_Inert, name) for name in names]
    with torch.serialization.safe_globals(admitted):
        return read_checkpoint(path)


def load_translator(model: nn.Module, path: str | Path,
                    ema: bool = True) -> LoadReport:
    """Load a checkpoint of any accepted layout into a translator.

    Args:
        model: The receiver.
        path: The file; never unpickled.
        ema: Take averaged weights where a BBDM file has them.

    Raises:
        CheckpointError: If the file cannot be used.
    """
    content = read_foreign(path)
    if not ema:
        content.pop('ema', None)
    print_log(f'Weights from {path}', logger='current')
    model.load_state_dict(content, strict=False)
    return model.load_report  # type: ignore[return-value]


def pretrained_file(init_cfg: Mapping[str, Any] | None,
                    where: str) -> str | None:
    """The file that an ``init_cfg`` names.

    Args:
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)``, with
            ``optional=True`` where the file may be missing; or ``None``.
        where: Whose it is, e.g. ``'model.codec'``, for the messages.

    Returns:
        The path; ``None`` if there is nothing to read.

    Raises:
        CheckpointError: If it is of another type.
    """
    if init_cfg is None:
        return None
    if init_cfg.get('type') != 'Pretrained' or 'checkpoint' not in init_cfg:
        raise CheckpointError(
            f'{where}.init_cfg={dict(init_cfg)!r}: expected '
            "dict(type='Pretrained', checkpoint=FILE).")
    path: str = init_cfg['checkpoint']
    if init_cfg.get('optional') and not Path(path).expanduser().is_file():
        print_log(
            f'NO PRE-TRAINED WEIGHTS for {where}: there is no {path!r}. Its '
            'weights are random; nothing that goes through a random codec is '
            'an image. Put the file there, or name it with --cfg-options '
            f'{where}.init_cfg.checkpoint=FILE; configs/README.md says '
            'where it is published.',
            logger='current',
            level=logging.WARNING)
        return None
    return path


def load_codec(codec: nn.Module, path: str | Path) -> LoadReport:
    """Load a latent-diffusion file, or one of ours, into a codec.

    Raises:
        CheckpointError: If the file cannot be used, or leaves tensors of
            the codec unfilled.
    """
    print_log(f'Codec from {path}', logger='current')
    codec.load_state_dict(read_foreign(path), strict=False)
    report: LoadReport = codec.load_report  # type: ignore[assignment]
    report.require_complete()
    return report
