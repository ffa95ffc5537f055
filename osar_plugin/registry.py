"""Child registries of scope ``osar_plugin``.

``type='osar_plugin.SDFNet'`` is found from every default scope: MMEngine
imports this module, and each registry imports its ``locations`` on the first
look-up, so configs need no ``custom_imports``.
"""

from __future__ import annotations

from mmengine.config import utils as _config_utils
from mmengine.registry import DATA_SAMPLERS as _DATA_SAMPLERS
from mmengine.registry import DATASETS as _DATASETS
from mmengine.registry import FUNCTIONS as _FUNCTIONS
from mmengine.registry import HOOKS as _HOOKS
from mmengine.registry import INFERENCERS as _INFERENCERS
from mmengine.registry import METRICS as _METRICS
from mmengine.registry import MODELS as _MODELS
from mmengine.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS as _OPTIM_WRAPPER_CONSTRUCTORS,
)
from mmengine.registry import OPTIM_WRAPPERS as _OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS as _OPTIMIZERS
from mmengine.registry import PARAM_SCHEDULERS as _PARAM_SCHEDULERS
from mmengine.registry import TRANSFORMS as _TRANSFORMS
from mmengine.registry import VISBACKENDS as _VISBACKENDS
from mmengine.registry import VISUALIZERS as _VISUALIZERS
from mmengine.registry import Registry

from .compat import prepare_torchvision

SCOPE = 'osar_plugin'

# A Runner imports torchvision to report its version.
prepare_torchvision()

# Opens `_base_='osar_plugin::...'`, `mmengine.hub` and inferencers by name.
_config_utils.MODULE2PACKAGE.setdefault(SCOPE, SCOPE)


def _child(name: str, parent: Registry, folder: str) -> Registry:
    return Registry(
        name, parent=parent, scope=SCOPE, locations=[f'{SCOPE}.{folder}'])


MODELS = _child('model', _MODELS, 'models')
DATASETS = _child('dataset', _DATASETS, 'datasets')
TRANSFORMS = _child('transform', _TRANSFORMS, 'datasets.transforms')
DATA_SAMPLERS = _child('data sampler', _DATA_SAMPLERS, 'datasets')
HOOKS = _child('hook', _HOOKS, 'engine')
OPTIM_WRAPPERS = _child('optimizer wrapper', _OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optimizer wrapper constructor', _OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
PARAM_SCHEDULERS = _child('parameter scheduler', _PARAM_SCHEDULERS, 'engine')
FUNCTIONS = _child('function', _FUNCTIONS, 'engine')
METRICS = _child('metric', _METRICS, 'evaluation')
VISUALIZERS = _child('visualizer', _VISUALIZERS, 'visualization')
INFERENCERS = _child('inferencer', _INFERENCERS, 'apis')
# Empty: a Runner builds from these two as well, and MMEngine warns of each
# that has no child of the default scope.
OPTIMIZERS = _child('optimizer', _OPTIMIZERS, 'engine')
VISBACKENDS = _child('vis_backend', _VISBACKENDS, 'visualization')
