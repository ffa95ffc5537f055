"""What is installed, against what the package is tested with.

Nothing is asserted at import: a newer version is no error. The report says
what was found, which of it is untested and what is known to go wrong::

    python -m osar_plugin.utils.env
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Distribution to tested versions, as pinned in requirements/. The first of a
# group that is installed is reported.
TESTED: dict[str, dict[str, str]] = {
    'mmengine': {'onedl-mmengine': '0.10.12', 'mmengine': '0.10.7'},
    'mmcv': {
        'onedl-mmcv': '2.3.6', 'mmcv-lite': '2.1.0', 'mmcv': '2.1.0'},
    'torch': {'torch': '2.13.0'},
    'numpy': {'numpy': '2.4.6'},
    'scipy': {'scipy': '1.17.1'},
    'pillow': {'pillow': '13.0.0'},
    'opencv': {
        'opencv-python-headless': '5.0.0.93', 'opencv-python': '5.0.0.93'},
    'safetensors': {'safetensors': '0.8.0'},
}  # yapf: disable
OPTIONAL: dict[str, dict[str, str]] = {
    'torchvision [reid]': {'torchvision': '0.28.0'},
    'torchreid [reid]': {'torchreid': '0.2.5'},
    'faiss [index]': {'faiss-cpu': '1.15.1', 'faiss-gpu': ''},
    'tensorboard [vis]': {'tensorboard': '2.21.0'},
    'mmdet [onedl-full]': {'onedl-mmdetection': '3.5.1', 'mmdet': ''},
    'mmseg [onedl-full]': {
        'onedl-mmsegmentation': '1.4.2', 'mmsegmentation': ''},
    'mmpretrain [onedl-full]': {
        'onedl-mmpretrain': '1.3.6', 'mmpretrain': ''},
}  # yapf: disable
# Pairs of distributions that install the same files.
CLASHES = (('onedl-mmengine', 'mmengine'), ('onedl-mmcv', 'mmcv'),
           ('onedl-mmcv', 'mmcv-lite'), ('mmcv', 'mmcv-lite'),
           ('opencv-python', 'opencv-python-headless'))


def installed(distribution: str) -> str | None:
    """Version of an installed distribution; a build tag is kept."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def has_mmcv_ops() -> bool:
    """Whether mmcv came with its compiled operators."""
    try:
        return importlib.util.find_spec('mmcv._ext') is not None
    except ImportError:
        return False


def has_cpu_bf16() -> bool | None:
    """Whether the processor multiplies bfloat16; None where unknown.

    Without such instructions ``--amp`` works on a CPU, and saves no time.
    """
    info = Path('/proc/cpuinfo')
    if not info.is_file():
        return None
    text = info.read_text(encoding='utf-8', errors='replace')
    return any(
        flag in text.split() for flag in ('avx512_bf16', 'amx_bf16', 'bf16'))


def collect() -> dict[str, str]:
    """The environment, as label to description, in order of interest."""
    from ..version import __version__

    rows = {
        'osar_plugin': __version__,
        'Python': f'{platform.python_version()} (tested: 3.11)',
        'system': f'{platform.system()} {platform.machine()}',
        'processor': _processor(),
    }
    for label, group in TESTED.items():
        rows[label] = _found(group)
    rows['mmcv operators'] = (
        'compiled' if has_mmcv_ops() else
        'none (enough for every model of this package)')
    rows['GPU'] = _gpus()
    for label, group in OPTIONAL.items():
        rows[label] = _found(group)
    return rows


def problems() -> list[str]:
    """What is known to go wrong in this environment."""
    found = []
    for a, b in CLASHES:
        if installed(a) and installed(b):
            found.append(
                f'{a} and {b} install the same files; uninstall both, then '
                'install one.')
    for label, extra in (('mmengine', 'onedl'), ('mmcv', 'onedl')):
        if not any(map(installed, TESTED[label])):
            found.append(
                f'No {label}: pip install "osar_plugin[{extra}]", or '
                '"osar_plugin[openmmlab]" for the original one.')
    if not any(map(installed, TESTED['opencv'])):
        found.append(
            'No opencv, which mmcv imports: pip install '
            'opencv-python-headless')
    return found


def report() -> str:
    """The report as plain text, made to be pasted into an issue."""
    rows = collect()
    width = max(map(len, rows))
    lines = [f'{label:<{width}}  {text}' for label, text in rows.items()]
    lines += [f'problem: {text}' for text in problems()]
    return '\n'.join(lines) + '\n'


def _found(group: dict[str, str]) -> str:
    for name, tested in group.items():
        found = installed(name)
        if found is None:
            continue
        if found.split('+')[0] == tested:
            return f'{name} {found} (tested)'
        return f'{name} {found} (tested: {tested or "no version"})'
    return 'not installed'


def _processor() -> str:
    bf16 = {True: 'yes', False: 'no', None: 'unknown'}[has_cpu_bf16()]
    return f'{os.cpu_count()} logical cores, bfloat16 instructions: {bf16}'


def _gpus() -> str:
    import torch
    if not torch.cuda.is_available():
        build = torch.version.cuda or 'CPUs only'
        return f'none (torch is built for {build})'
    names = [
        torch.cuda.get_device_name(i)
        for i in range(torch.cuda.device_count())
    ]
    return f'{", ".join(names)} (CUDA {torch.version.cuda})'


if __name__ == '__main__':
    sys.stdout.write(report())
