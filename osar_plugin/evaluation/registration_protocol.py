"""Fixed test pairs; see :mod:`osar_plugin.datasets.registration_protocol`.

The file is read by data sets, too, which know no evaluation.
"""

from __future__ import annotations

from osar_plugin.datasets.registration_protocol import (
    ImageFile,
    PairRecord,
    Protocol,
    RegistrationProtocol,
    RenderedPair,
    make_protocol,
    parse_protocol,
    read_protocol,
    render,
    write_protocol,
)

__all__ = [
    'ImageFile', 'PairRecord', 'Protocol', 'RegistrationProtocol',
    'RenderedPair', 'make_protocol', 'parse_protocol', 'read_protocol',
    'render', 'write_protocol'
]
