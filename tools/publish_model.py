r"""Make the weights of a training a file that can be given away.

    python tools/publish_model.py work_dirs/sdfnet_hoss sdfnet.safetensors

writes sdfnet-<sha256>.safetensors, with eight digits of its checksum: the
weights that were evaluated (averaged ones, where the training kept some),
nothing that could run, and in its header what they are: config, epoch,
iteration, version. Look at the config before you publish it: it may name
your folders; --no-config leaves it out.

To change the layout of weights, use tools/convert_checkpoint.py.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from osar_plugin.utils import launch
from osar_plugin.utils.errors import CheckpointError, ConfigError


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'checkpoint',
        help='checkpoint of a training, or its work dir: the newest whole '
        'one in it')
    parser.add_argument(
        'out', metavar='OUT.safetensors',
        help='file to write; its checksum is added to the name')
    parser.add_argument(
        '--no-config', action='store_true',
        help='leave the text of the config out')
    return parser.parse_args()


def describe(content: Mapping[str, Any], config: bool) -> dict[str, str]:
    """What the file will say of itself.

    Args:
        content: A checkpoint.
        config: Whether to give the config.
    """
    from osar_plugin import __version__

    meta = content.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    # MMEngine appends the commit of whatever repository it was run in.
    version = re.sub(
        '([0-9a-f]{40}|unknown)$', '', str(meta.get('mmengine_version') or ''))
    known = {
        'format': 'pt',  # for readers that ask which library wrote it
        'osar_plugin': __version__,
        'mmengine': version or None,
        'epoch': meta.get('epoch'),
        'iter': meta.get('iter'),
        'config': meta.get('cfg') if config else None}
    return {
        key: str(value) for key, value in known.items()
        if isinstance(value, (str, int))}


def main() -> None:
    """Publish."""
    args = parse_args()
    if Path(args.out).suffix != '.safetensors':
        raise ConfigError(
            f'{args.out}: the suffix is {Path(args.out).suffix!r}, expected '
            '.safetensors.')
    # Imported here: help and wrong flags need no torch.
    from torch import Tensor

    from osar_plugin.utils.checkpoint import (
        find_checkpoint,
        publish_weights,
        read_checkpoint,
        unwrap_state_dict,
    )

    source = Path(args.checkpoint)
    if source.is_dir():
        found = find_checkpoint(source)
        if found is None:
            raise CheckpointError(
                f'There is no checkpoint in {args.checkpoint!r}. Give the '
                'work dir of a training, or a checkpoint.')
        source = found
    content = read_checkpoint(source)
    weights = {
        key: value for key, value in unwrap_state_dict(content).items()
        if isinstance(value, Tensor)}
    if not weights:
        raise CheckpointError(f'{str(source)!r} holds no weights.')
    path, digest = publish_weights(
        weights, args.out, describe(content, not args.no_config))
    sys.stdout.write(
        f'{source}: {len(weights)} tensors\n'
        f'sha256 {digest}  {path}  ({path.stat().st_size} bytes)\n')


if __name__ == '__main__':
    launch.run(main)
