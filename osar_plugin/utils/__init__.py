"""Checkpoints, environment report and the package's exceptions."""

from __future__ import annotations
