"""Optical-SAR models as registered OpenMMLab components.

Importing the package registers nothing and needs nothing beyond the standard
library: a scoped name in a config (``osar_plugin.SDFNet``) pulls in the
registry, which pulls in what it names.
"""

from __future__ import annotations

from .version import __version__

__all__ = ['__version__']
