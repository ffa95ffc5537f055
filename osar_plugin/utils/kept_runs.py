"""Figures of finished runs, kept so that no run is repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..io import atomic_write


def kept(result: Path, made_with: str) -> dict[str, Any] | None:
    """Figures of an earlier run under the same conditions.

    Args:
        result: File of :func:`keep`.
        made_with: What the run depends on, as a string.
    """
    known = json.loads(result.read_text()) if result.is_file() else {}
    return known if known.get('conditions') == made_with else None


def keep(result: Path, figures: dict[str, Any],
         made_with: str) -> dict[str, Any]:
    """Write figures down and give them back."""
    known = dict(figures, conditions=made_with)
    with atomic_write(result) as file:
        json.dump(known, file)
    return known
