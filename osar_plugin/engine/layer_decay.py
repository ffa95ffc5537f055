"""Layer-wise learning rates for transformers.

The deeper a layer, the larger its learning rate: layer ``id`` of ``n`` gets
``decay_rate ** (n - 1 - id)`` times the base rate. A backbone tells the ids
of its parameters by ``layer_id(name, rule)`` and how many there are by
``num_layers(rule)``; what lies outside of it (necks, heads) gets the last
id, hence the base rate.
"""

from __future__ import annotations

from typing import Any

from mmengine.logging import print_log
from torch import nn

from ..registry import OPTIM_WRAPPER_CONSTRUCTORS
from ..utils.config_values import require_range
from ..utils.errors import ConfigError
from .constructors import MergedGroupsConstructor, merge_groups

RULES = ('codemae', 'hivit', 'itpn', 'vit')
KEYS = ('decay_rate', 'num_layers', 'rule', 'rescale_to')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(MergedGroupsConstructor):
    """Learning rates that decay from the heads to the first layer.

    ``paramwise_cfg`` has:

    * ``decay_rate``: Factor from a layer to the one before it.
    * ``rule``: ``'codemae'`` (default): ids and scales of the published
      detectors, segmentors, classifiers and damage mappers (33 ids for
      iTPN-B); ``'hivit'``: of HiViT's own code; ``'itpn'``: of iTPN's
      classifiers; ``'vit'``: of plain ViTs (BEiT, MAE). See ``layer_id`` of
      the backbones.
    * ``num_layers``: As in the published configs, two less than there are
      ids (31 for iTPN-B); None to take it from the backbone.
    * ``rescale_to``: Steps of the network that ``decay_rate`` was chosen
      for; over the ``n - 1`` steps of this one the rate falls as much as
      over those, by ``decay_rate ** (rescale_to / (n - 1))`` a step.
      Classifiers of iTPN: 13, the steps of a ViT-B, with ``rule='itpn'``;
      its segmentors: 13 and 33, which is ``decay_rate=0.85 ** (13 / 33)``
      without this argument. None, as in CoDe-MAE's recipes, takes the rate
      as it is.

    Parameters with one axis, biases, tokens (``*_token``) and tables of
    positions (``*pos_embed``, ``*relative_position_bias_table``) have no
    weight decay (official code). The log has a line for each depth.

    Raises:
        ConfigError: If an entry is unknown, missing or out of range, the
            model has no backbone with layer ids, or ``num_layers`` is too
            small for it.
    """

    def add_params(self,
                   params: list[dict],
                   module: nn.Module,
                   prefix: str = '',
                   is_dcn_module: int | float | None = None) -> None:
        """Collect the groups of a model; see the base class."""
        rate, rule, wanted, rescale_to = self._settings()
        ids, count = layer_ids(module, rule)
        if wanted is not None:
            if wanted + 2 < count:
                raise ConfigError(
                    f'paramwise_cfg.num_layers={wanted} allows '
                    f'{wanted + 2} depths and the backbone has {count} by '
                    f'the rule {rule!r}. Use {count - 2} or leave it out.')
            count = wanted + 2
        if rescale_to is not None and count > 1:
            rate = rate**(rescale_to / (count - 1))
        steps: dict[int, list[bool]] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            number = ids[name]
            depth = count - 1 if number is None else number
            scale = rate**(count - 1 - depth)
            decays = has_weight_decay(name, parameter.ndim)
            group: dict[str, Any] = dict(
                params=[parameter], lr=self.base_lr * scale)
            if self.base_wd is not None:
                group['weight_decay'] = self.base_wd if decays else 0.
            params.append(group)
            steps.setdefault(depth, []).append(decays)
        params[:] = merge_groups(params)
        print_log(
            f'Layer decay: {len(params)} parameter groups of {count} depths'
            + ''.join(
                f'\n  depth {depth}: {rate**(count - 1 - depth):.6f} of '
                f'{self.base_lr:g}, {sum(decays)} tensors with weight decay, '
                f'{len(decays) - sum(decays)} without'
                for depth, decays in sorted(steps.items())),
            logger='current')

    def _settings(self) -> tuple[float, str, int | None, int | None]:
        given = dict(self.paramwise_cfg)
        unknown = sorted(set(given) - set(KEYS))
        if unknown or 'decay_rate' not in given:
            raise ConfigError(
                f'paramwise_cfg={given!r}: LayerDecayConstructor needs '
                f'decay_rate and knows {", ".join(KEYS)} alone.')
        rule = given.get('rule', 'codemae')
        if rule not in RULES:
            raise ConfigError(
                f'paramwise_cfg.rule={rule!r} is none of '
                f'{", ".join(map(repr, RULES))}.')
        rate, layers = given['decay_rate'], given.get('num_layers')
        steps = given.get('rescale_to')
        if type(rate) not in (int, float) or {type(layers), type(steps)} - {
                int, type(None)}:
            raise ConfigError(
                f'paramwise_cfg={given!r}: expected a number for decay_rate '
                'and a whole one or None for num_layers and rescale_to.')
        require_range(0, 1, without=(0, ), decay_rate=rate)
        require_range(0, 2**12, num_layers=layers)
        require_range(1, 2**12, rescale_to=steps)
        return rate, rule, layers, steps


def layer_ids(model: nn.Module,
              rule: str) -> tuple[dict[str, int | None], int]:
    """Depth of every parameter of a model.

    Args:
        model: Has a backbone with ``layer_id`` and ``num_layers``
            somewhere, or is one.
        rule: See :class:`LayerDecayConstructor`.

    Returns:
        The ids by name, None for the last one (necks, heads), and how many
        ids there are.

    Raises:
        ConfigError: If no module has layer ids.
    """
    ids: dict[str, int | None] = {
        name: None for name, _ in model.named_parameters()}
    count = 0
    for prefix, module in model.named_modules():
        if not hasattr(module, 'layer_id'):
            continue
        start = f'{prefix}.' if prefix else ''
        count = max(count, module.num_layers(rule))
        for name, _ in module.named_parameters():
            if start + name in ids:
                ids[start + name] = module.layer_id(name, rule)
    if not count:
        raise ConfigError(
            f'{type(model).__name__} has no backbone with layer ids: '
            'LayerDecayConstructor works with osar_plugin.ITPN, HiViT and '
            'DenseViT. Use osar_plugin.MergedGroupsConstructor for others.')
    return ids, count


def has_weight_decay(name: str, ndim: int) -> bool:
    """Whether the official rule decays the weights of a parameter.

    Args:
        name: Of the parameter.
        ndim: Its number of axes.
    """
    return ndim > 1 and not name.endswith(
        ('.bias', '_token', 'pos_embed', 'relative_position_bias_table'))
