"""Inputs that cannot be trusted: manifests, damage, duplicates and leaks."""

from __future__ import annotations

from .findings import KINDS, Finding, Report
from .folder import record, verify
from .manifest import MANIFEST, read_manifest, write_manifest
from .splits import SPLITS

__all__ = [
    'KINDS', 'MANIFEST', 'SPLITS', 'Finding', 'Report', 'read_manifest',
    'record', 'verify', 'write_manifest',
]
