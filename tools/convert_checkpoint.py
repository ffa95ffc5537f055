r"""Convert a checkpoint between our layout and the authors'.

    python tools/convert_checkpoint.py sdfnet_released.pth ours.safetensors \
        --to ours --config configs/sdfnet_hoss.py
    python tools/convert_checkpoint.py checkpoint-800.pth itpn_sar.pth \
        --to backbone --modality sar

SRC may have any layout that the models accept, as .pth or .safetensors; it
is read without unpickling. The suffix of DST decides its format. With
--config the weights are held against that model: positions are interpolated
where its input has another size, and what is missing or left over is
reported. Without it entries are renamed only.

--to backbone takes HiViT or iTPN out of a file of pre-training or of
fine-tuning (CoDe-MAE, iTPN, HiViT, SARATR-X, ours), which configs of mmdet,
mmseg and mmpretrain then take by
backbone.init_cfg=dict(type='Pretrained', checkpoint=DST). With --config it is
held against the `backbone` of that config.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from osar_plugin.utils import launch
from osar_plugin.utils.errors import CheckpointError, ConfigError

SUFFIXES = ('.pth', '.pt', '.safetensors')


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', help='checkpoint to read')
    parser.add_argument('dst', help='file to write: .pth or .safetensors')
    parser.add_argument(
        '--to', choices=('ours', 'official', 'backbone'), required=True,
        help='layout to write')
    parser.add_argument(
        '--modality', choices=('rgb', 'sar'),
        help='with --to backbone: keep the patch embedding of this sensor '
        'alone')
    parser.add_argument(
        '--prefix', default='',
        help="with --to backbone: put in front of every key ('backbone.')")
    parser.add_argument('--config', help='config of the model')
    parser.add_argument(
        '--force', action='store_true', help='overwrite DST')
    return parser.parse_args()


def check_args(args: argparse.Namespace) -> None:
    """Refuse what can be refused before anything is read."""
    dst = Path(args.dst)
    if dst.suffix not in SUFFIXES:
        raise ConfigError(
            f'{args.dst}: the suffix is {dst.suffix!r}, expected one of '
            f'{", ".join(SUFFIXES)}.')
    if dst.exists() and not args.force:
        raise ConfigError(
            f'{args.dst} is there already. Give another name, or --force to '
            'overwrite it.')
    if args.to != 'backbone' and (args.modality or args.prefix):
        raise ConfigError(
            '--modality and --prefix belong to --to backbone. Leave them '
            'out.')


def take_backbone(source: dict[str, Any], args: argparse.Namespace
                  ) -> tuple[dict[str, Any], str]:
    """The backbone of a checkpoint and what there is to say of it.

    Args:
        source: Tensors by name.
        args: Of the command line.
    """
    from osar_plugin.models.backbones.official_hierarchical import (
        adapt,
        backbone_weights,
        export_backbone,
    )
    from osar_plugin.registry import MODELS
    from osar_plugin.utils.config import load_config

    weights = export_backbone(source, args.modality)
    text = f'{len(backbone_weights(source))} of {len(source)} entries'
    if args.config:
        model = load_config(args.config).model
        while 'backbone' in model:
            model = model.backbone
        model.pop('init_cfg', None)
        weights, report = adapt(weights, MODELS.build(model))
        text = str(report)
    return {args.prefix + k: v for k, v in weights.items()}, text


def main() -> None:
    """Convert."""
    args = parse_args()
    check_args(args)
    # Imported here: help and wrong flags need no torch.
    from torch import Tensor

    from osar_plugin.models.reid.official import (
        adapt,
        from_official,
        is_official,
        to_official,
    )
    from osar_plugin.registry import MODELS
    from osar_plugin.utils.checkpoint import (
        read_checkpoint,
        save_weights,
        sha256_of,
        unwrap_state_dict,
    )
    from osar_plugin.utils.config import load_config

    source = {
        key: value for key, value in unwrap_state_dict(
            read_checkpoint(args.src)).items() if isinstance(value, Tensor)}
    if not source:
        raise CheckpointError(f'{args.src} holds no weights.')
    layout = 'official' if is_official(source) else 'ours'
    if args.to == 'backbone':
        weights, text = take_backbone(source, args)
    elif args.config:
        model = MODELS.build(load_config(args.config).model)
        weights, report = adapt(source, model)
        weights = {k: v for k, v in weights.items() if k in report.loaded}
        text = str(report)
    else:
        weights = from_official(source) if layout == 'official' else source
        text = (f'{len(source)} entries renamed to {len(weights)}; give '
                '--config to hold them against a model')
    if args.to == 'official':
        if 'backbone.cls_token' not in weights:
            raise CheckpointError(
                f'{args.src} has no backbone.cls_token: it is no checkpoint '
                'of a re-identification model.')
        weights = to_official(weights)
    digest = save_weights(weights, args.dst)
    sys.stdout.write(
        f'{args.src} ({layout} layout): {text}\n'
        f'{args.dst} ({args.to} layout): {len(weights)} entries\n'
        f'sha256 {sha256_of(args.src)}  {args.src}\n'
        f'sha256 {digest}  {args.dst}\n')


if __name__ == '__main__':
    launch.run(main)
