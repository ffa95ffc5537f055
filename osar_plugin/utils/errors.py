"""Exceptions of the package.

Each message names the value, what was expected and the cure. The command
line tools print an :class:`OSARError` as one message, without a traceback.
"""

from __future__ import annotations


class OSARError(Exception):
    """Base of every error that a user can mend."""


class ConfigError(OSARError, ValueError):
    """A config, a flag or an argument that cannot be used."""


class DatasetNotFoundError(OSARError, FileNotFoundError):
    """A data folder that is missing or empty."""


class DataFormatError(OSARError, ValueError):
    """A file or an array of another kind than the one expected."""


class CorruptImageError(OSARError, OSError):
    """An image that cannot be decoded."""


class InvalidLossError(OSARError, FloatingPointError):
    """A loss that is NaN or infinite."""


class CheckpointError(OSARError, RuntimeError):
    """A checkpoint that cannot be used."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint whose pickle asks for more than plain data."""


class CheckpointMismatchError(CheckpointError):
    """A checkpoint that does not belong to the model."""


class MissingDependencyError(OSARError, ImportError):
    """An optional package that is not installed."""
