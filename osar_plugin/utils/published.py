"""Published files of weights that configs start from, and where they are.

Nothing is downloaded on its own; a missing file is explained instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .config_check import dicts
from .errors import CheckpointError

#: What a file holds, and who publishes it, by its name.
PUBLISHED: Mapping[str, tuple[str, str]] = {
    'checkpoint-800.pth': (
        "CoDe-MAE's pre-trained iTPN-B", 'scenarri/CoDeMAE on GitHub'),
    'itpn_base_fpn256.pth': (
        "iTPN-B, where CoDe-MAE's pre-training starts",
        'sunsmarterjie/iTPN on GitHub'),
    'mae_hivit_base_1600ep.pth': (
        'HiViT-B, pre-trained by its MAE on natural images',
        'zhangxiaosong18/hivit on GitHub'),
    'checkpoint-600.pth': (
        "SARATR-X's pre-trained HiViT-B", 'waterdisappear/SARATR-X on GitHub'),
    'mae_pretrain_vit_base.pth': (
        "MAE's ViT-B, pre-trained on natural images",
        'facebookresearch/mae on GitHub')}
# Of what is downloaded, or is a name of mmengine's.
_ADDRESS = '://'


def explain_missing(path: str, entry: str = 'model.backbone.init_cfg') -> str:
    """Say what a missing file is and what to do without it.

    Args:
        path: Where it was looked for.
        entry: Of the config that names it.
    """
    known = PUBLISHED.get(Path(path).name)
    text = f'There is no checkpoint {path!r}'
    if known is not None:
        text += f', {known[0]}, published by {known[1]}'
    return (
        f'{text}. Nothing is downloaded on its own: put the file there, name '
        f'another with --cfg-options {entry}.checkpoint=FILE, or start from '
        f'random weights with --cfg-options {entry}=None.')


def require_start_weights(model: Any, path: str = 'model') -> None:
    """Refuse a config whose ``init_cfg`` names files that are not there.

    A look at the disk, before data sets and models are built. Addresses are
    left to those who download them; entries with ``optional=True`` can do
    without.

    Args:
        model: The config of the model.
        path: Of the model in the config.

    Raises:
        CheckpointError: Naming the first such file.
    """
    for entry, node in dicts(model, path):
        file = node.get('checkpoint')
        if node.get('type') != 'Pretrained' or node.get('optional') or (
                not isinstance(file, str)):
            continue
        if file and _ADDRESS not in file and not (
                Path(file).expanduser().is_file()):
            raise CheckpointError(explain_missing(file, entry))
