"""The zoo: what models there are, and how to build one by its name.

    import osar_plugin
    osar_plugin.list_models('*hoss*')
    model = osar_plugin.get_model('sdfnet_hoss', pretrained='SDF-Net.pth')

Names are the paths of the configs below ``configs/``, without ``.py``:
``'sdfnet_hoss'`` of the top level, ``'demo/sdfnet_hoss'`` of a folder. They
are installed with the package, and so is the table of them, ``metafile.yml``.
"""

from __future__ import annotations

import copy
import fnmatch
import functools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from torch import nn

from ..compat import require
from ..registry import MODELS, SCOPE
from ..utils.checkpoint import load_checkpoint
from ..utils.config import load_config, read_config
from ..utils.config_check import dicts
from ..utils.errors import ConfigError, DataFormatError
from ..utils.names import did_you_mean, nearest
from ..utils.work_dir import checkpoint_file

CONFIGS = Path(__file__).resolve().parents[1] / '.mim' / 'configs'
# Task of the models of other packages, by the scope that a config sets.
_TASKS = {'mmdet': 'detection', 'mmseg': 'segmentation',
          'mmpretrain': 'classification'}
DOWNSTREAM = 'onedl-full'  # the extra with mmdet, mmseg and mmpretrain


@dataclass(frozen=True)
class ModelInfo:
    """One entry of the zoo.

    Attributes:
        name: Of the config.
        config: The file.
        collection: The published system.
        task: ``'reid'``, ``'translation'``, ``'pretraining'``,
            ``'registration'``, ``'damage'``, ``'detection'``,
            ``'segmentation'`` or ``'classification'``.
        dataset: What it is trained on.
        paper: The authors' figures by data set and metric; may be empty.
        ours: Figures measured with this package, likewise; None where none
            was.
        weights: Files that the config names: what it starts from, teachers
            and codecs, and what its hooks read.
        files_to_name: Keys of the config under which it takes a file and
            names none, such as a hook's translator.
    """

    name: str
    config: Path
    collection: str
    task: str
    dataset: str
    paper: dict[str, dict[str, float]]
    ours: dict[str, dict[str, float]] | None
    weights: tuple[str, ...]
    files_to_name: tuple[str, ...]


def list_models(pattern: str = '*') -> list[str]:
    """Names of the zoo, sorted.

    Args:
        pattern: With ``*`` and ``?``, in any case. Without a slash it is
            held against the configs of the top level, e.g.
            ``'codemae_*'``; those of a folder are asked for by its name,
            e.g. ``'demo/*'`` or ``'ablation/mos_*'``, and of all folders
            with ``'*/*'``.
    """
    wanted = pattern.lower()
    return sorted(
        name for name in _entries()
        if ('/' in name) == ('/' in wanted)
        and fnmatch.fnmatchcase(name.lower(), wanted))


def model_info(name: str) -> ModelInfo:
    """What the zoo says of a model.

    Args:
        name: See :func:`list_models`.

    Raises:
        ConfigError: If there is no such name.
    """
    entry = _entry(name)
    path = _config_path(entry)
    cfg = read_config(path)
    metadata = entry['Metadata']
    return ModelInfo(
        name, path, entry['In Collection'], _task(cfg),
        metadata['Training Data'], metadata.get('Paper Figures', {}),
        _measured(entry), tuple(dict.fromkeys(_weights(cfg))),
        tuple(_files_to_name(cfg)))


def get_model(name: str, pretrained: bool | str | Path | None = False,
              device: str | torch.device | None = None,
              **overrides: Any) -> nn.Module:
    """Build the model of a config.

    Args:
        name: See :func:`list_models`.
        pretrained: False or None: new weights, drawn as for training (seed
            them with ``torch.manual_seed``); True: the files that the config
            starts from, which must be there; or a checkpoint of the model,
            ours or the authors', or a work dir.
        device: Where the model is to be, e.g. ``'cuda'``; None is the CPU.
        **overrides: Arguments of the model in place of the config's. A dict
            is merged into a dict, as in
            ``backbone=dict(drop_path_rate=0.)``, and replaces anything
            else. Dotted keys are taken as well:
            ``get_model(name, **{'backbone.drop_path_rate': 0.})``.

    Returns:
        The model, in training mode. Teachers of pre-training
        and codecs of translation are part of their models and need their
        files.

    Raises:
        ConfigError: If there is no such name or device, or an argument
            cannot be used.
        MissingDependencyError: If the model belongs to a package that is
            not installed.
        CheckpointError: If the weights cannot be used.
    """
    path = _config_path(_entry(name))
    place = _device(device)
    cfg = read_config(path)
    scope = cfg.get('default_scope') or SCOPE
    if scope != SCOPE:
        require(scope, DOWNSTREAM)
    cfg = load_config(path, {
        f'model.{key}': _over(_at(cfg.model, key), value)
        for key, value in overrides.items()}, _as_argument)
    node = copy.deepcopy(cfg.model)
    for part in [part for _, part in dicts(node, 'model')]:
        _settle_weights(part, keep=pretrained is True)
    # Looked for before the model is built, which may take long.
    file = None if pretrained is None or isinstance(
        pretrained, bool) else checkpoint_file(pretrained)
    with MODELS.switch_scope_and_registry(scope) as registry:
        model: nn.Module = registry.build(node)
    if file is None:
        with _quiet():
            model.init_weights()  # type: ignore[operator]
    else:
        load_checkpoint(model, file)
    return model.to(place)


def _as_argument(key: str) -> str:
    """What a key of the config is called among our arguments."""
    return f'argument {key.removeprefix("model.")!r}'


def _device(device: str | torch.device | None) -> torch.device:
    """A device that can be used, found out before a model is built."""
    try:
        place = torch.device('cpu' if device is None else device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ConfigError(
            f'device={str(device)!r} cannot be used ({error}). Expected '
            "'cpu', 'cuda', 'cuda:1' or the like, of a device that is "
            'there.') from error
    return place


def _at(node: Any, key: str) -> Any:
    """The value at a dotted key, an empty dict where there is none."""
    for part in key.split('.'):
        node = node.get(part, {}) if isinstance(node, dict) else {}
    return node


def _over(old: Any, new: Any) -> Any:
    """A value to merge over another: a dict replaces what is none."""
    if not isinstance(new, dict):
        return new
    if not isinstance(old, dict):
        return dict(new, _delete_=True)
    return {key: _over(old.get(key, {}), value) for key, value in new.items()}


def _settle_weights(part: dict[str, Any], keep: bool) -> None:
    """Drop the files that a part starts from, or insist on them."""
    init = part.get('init_cfg')
    if isinstance(init, dict) and init.get('type') == 'Pretrained':
        if keep:
            init.pop('optional', None)
        else:
            part['init_cfg'] = None
    if not keep and isinstance(part.get('pretrained'), str):
        part['pretrained'] = None


class _quiet:
    """MMEngine's initialisation tells of every single parameter."""

    def __enter__(self) -> None:
        self.logger = MMLogger.get_current_instance()
        self.level = self.logger.level
        self.logger.setLevel(logging.WARNING)

    def __exit__(self, *error: object) -> None:
        self.logger.setLevel(self.level)


@functools.cache
def _entries() -> dict[str, dict[str, Any]]:
    """Entries of the installed table by name."""
    import yaml  # type: ignore[import-untyped]

    path = CONFIGS / 'metafile.yml'
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        return {entry['Name']: entry for entry in content['Models']}
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise DataFormatError(
            f'{path}: the table of models cannot be read ({error}). Install '
            'the package again.') from error


def _entry(name: str) -> dict[str, Any]:
    entries = _entries()
    if name not in entries:
        raise ConfigError(
            f'There is no model {name!r}.'
            f'{did_you_mean(nearest(name, entries))} '
            'osar_plugin.list_models() gives the names of the top level, '
            "list_models('*/*') those of the folders.")
    return entries[name]


def _config_path(entry: Mapping[str, Any]) -> Path:
    return CONFIGS / Path(entry['Config']).relative_to('configs')


def _task(cfg: Config) -> str:
    """The floor of this package that a model is on, or of another one."""
    scope = cfg.get('default_scope') or SCOPE
    if scope in _TASKS:
        return _TASKS[scope]
    kind = MODELS.get(cfg.model.type)
    return str(kind.__module__.split('.')[2])


def _measured(entry: Mapping[str, Any]
              ) -> dict[str, dict[str, float]] | None:
    """Figures of ``Results`` by data set."""
    results = entry.get('Results') or []
    return {one['Dataset']: one['Metrics'] for one in results} or None


def _parts(cfg: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """Dicts of a config that may name files of weights, with their paths."""
    for root in ('model', 'custom_hooks'):
        yield from dicts(cfg.get(root), root)


def _weights(cfg: Config) -> Iterator[str]:
    """Files that the model and the hooks of a config name."""
    for _, part in _parts(cfg):
        for key in ('checkpoint', 'pretrained'):
            if isinstance(part.get(key), str):
                yield part[key]
    if cfg.get('load_from'):
        yield cfg.load_from


def _files_to_name(cfg: Config) -> Iterator[str]:
    """Keys under which a file may be named and is not."""
    for path, part in _parts(cfg):
        if 'checkpoint' in part and part['checkpoint'] is None:
            yield f'{path}.checkpoint'
