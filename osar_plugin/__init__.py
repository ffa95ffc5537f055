"""Optical-SAR models as registered OpenMMLab components.

Importing the package registers nothing and needs nothing beyond the standard
library: a scoped name in a config (``osar_plugin.SDFNet``) pulls in the
registry, which pulls in what it names. So do :func:`list_models`,
:func:`get_model` and :func:`model_info` when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .apis.zoo import get_model, list_models, model_info

__all__ = ['__version__', 'get_model', 'list_models', 'model_info']


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module('.apis.zoo', __name__), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
