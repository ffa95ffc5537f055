"""Print a config with everything inherited and overridden in place."""

from __future__ import annotations

import argparse
import sys

from mmengine.config import DictAction

from osar_plugin.utils import launch
from osar_plugin.utils.config import load_config


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override parts of the config')
    args = parser.parse_args()
    sys.stdout.write(load_config(args.config, args.cfg_options).pretty_text)


if __name__ == '__main__':
    launch.run(main)
