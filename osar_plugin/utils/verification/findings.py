"""What can be wrong with a folder of images, and the report of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from .manifest import shown


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        meaning: What is wrong, for a table.
        cure: What to do.
        needs: ``'manifest'`` or ``'decode'`` if it is found with that only.
        warns: Whether it does not make the folder a bad one.
    """

    meaning: str
    cure: str
    needs: str = ''
    warns: bool = False


_AGAIN = 'Copy or download the file again.'
KINDS = {
    'missing': Kind(
        'in the manifest, but not there', _AGAIN, 'manifest'),
    'extra': Kind(
        'there, but not in the manifest',
        'Take the file away, or, if it belongs there, write the manifest '
        'anew.', 'manifest'),
    'altered': Kind(
        'other bytes than the manifest says',
        f'{_AGAIN} If the change is meant, write the manifest anew.',
        'manifest'),
    'unreadable': Kind(
        'cannot be opened', 'Mend its permissions, the link or the disk.'),
    'empty': Kind('no bytes or no pixels', _AGAIN),
    'undecodable': Kind('truncated or damaged', _AGAIN, 'decode'),
    'crashed': Kind(
        'brought the decoder down',
        'Do not use the file; copy or download it again.', 'decode'),
    'unsupported': Kind(
        'no picture of 1 or 3 bands',
        'Convert it, for example: gdal_translate -b 1 in.tif out.tif',
        'decode'),
    'nonfinite': Kind(
        'NaN or infinite values',
        "Fill them, or have them read as 0 with nonfinite='zero' of the "
        'loading transform and --allow nonfinite here.', 'decode'),
    'leaking': Kind(
        'the same image in two splits',
        'Take it out of one of the two: a result on images that were '
        'trained on, or searched in themselves, says nothing.'),
    'duplicated': Kind(
        'the same image twice in a split',
        'Keep one; two count double in training and in the results.'),
    'constant': Kind(
        'one value in all pixels', 'See whether it is meant to be blank.',
        'decode', warns=True),
    'suffix': Kind(
        'content of another format than its name says',
        'Rename it; some programs go by the name.', warns=True),
    'loop': Kind(
        'link to a folder that it lies in', 'Take the link away.',
        warns=True),
}
# With these, the bytes are not what somebody once meant to write.
DAMAGED = ('missing', 'unreadable', 'empty', 'undecodable', 'crashed')


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a file.

    Attributes:
        kind: A key of :data:`KINDS`.
        path: The file, relative to the folder.
        found: What was found.
        expected: What would be right; empty where it goes without saying.
        others: The other files that it is about.
        warning: Whether it does not make the folder a bad one.
    """

    kind: str
    path: str
    found: str
    expected: str = ''
    others: tuple[str, ...] = ()
    warning: bool = False

    @property
    def cure(self) -> str:
        """What to do."""
        return KINDS[self.kind].cure


@dataclass
class Report:
    """What was looked at and what was found.

    Attributes:
        root: The folder.
        manifest: The manifest that was compared or written; None if none.
        decoded: Whether images were decoded.
        files: Number of files.
        images: How many of them are images.
        labels: How many of these are label maps, which may be equal.
        size: Bytes of the files.
        splits: Images in each split; the key '' is no split.
        findings: In the order of :data:`KINDS`, then of the paths.
    """

    root: str
    manifest: str | None = None
    decoded: bool = True
    files: int = 0
    images: int = 0
    labels: int = 0
    size: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is nothing but warnings."""
        return all(finding.warning for finding in self.findings)

    def counts(self) -> dict[str, int]:
        """Number of findings of each kind, also of those with none."""
        number = Counter(finding.kind for finding in self.findings)
        return {kind: number[kind] for kind in KINDS}

    def as_dict(self) -> dict[str, Any]:
        """Plain content for a JSON file, names as they can be printed."""
        rows = [
            dict(asdict(finding), cure=finding.cure,
                 path=shown(finding.path),
                 others=[shown(name) for name in finding.others])
            for finding in self.findings]
        return dict(
            vars(self), root=shown(self.root), ok=self.ok,
            manifest=self.manifest and shown(self.manifest),
            counts=self.counts(), findings=rows)


def sort_findings(
        findings: Iterable[Finding],
        allow: Iterable[str] = ()) -> list[Finding]:
    """In the order of :data:`KINDS`, then of the paths.

    Args:
        findings: In any order.
        allow: Kinds that are to be warnings.
    """
    order = list(KINDS)
    mild = {kind for kind in KINDS if KINDS[kind].warns} | set(allow)
    marked = [
        replace(finding, warning=finding.kind in mild)
        for finding in findings]
    return sorted(marked, key=lambda finding: (
        order.index(finding.kind), os.fsencode(finding.path)))
