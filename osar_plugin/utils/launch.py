"""What the command line tools share: errors, launchers, mixed precision."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log

from . import errors
from .config_check import dicts
from .errors import ConfigError, OSARError

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
EXIT_USER_ERROR = 2


def run(main: Callable[[], None]) -> None:
    """Run a tool; errors that a user can mend end without a traceback.

    They are printed to stderr as one message and the process ends with
    status 2. Everything else is a fault of the program and keeps its
    traceback.
    """
    try:
        main()
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        sys.stderr.write(f'\nerror: {message}\n')
        sys.exit(EXIT_USER_ERROR)


def explain(error: BaseException) -> str | None:
    """The message of an error that a user can mend, or None.

    A worker process of a data loader hands its error on as text, traceback
    and all; what is returned is the message alone.
    """
    if isinstance(error, KeyError) and 'is not in the' in str(error):
        # MMEngine's registries; they say where they looked.
        return str(error.args[0])
    if not isinstance(error, OSARError):
        return None
    message = str(error)
    if message.startswith('Caught '):
        names = '|'.join(
            name for name, value in vars(errors).items()
            if isinstance(value, type) and issubclass(value, OSARError))
        parts = re.split(rf'\n(?:[\w.]+\.)?(?:{names}): ', message)
        message = parts[-1]
    return message.strip()


def apply_amp(cfg: Config) -> None:
    """Train in mixed precision: ``--amp`` of the training tool.

    float16 with a dynamic loss scale on a GPU; bfloat16, which needs no
    scale, on a CPU.

    Raises:
        ConfigError: If the config's optimizer wrapper is of another kind,
            or the model cannot be run so; see :func:`check_amp`.
    """
    check_amp(cfg)
    wrapper = cfg.optim_wrapper
    name = wrapper.get('type', 'OptimWrapper').rpartition('.')[2]
    known = ('OptimWrapper', 'AmpOptimWrapper', 'CPUAmpOptimWrapper')
    if name not in known:
        raise ConfigError(
            f'--amp cannot be used with the optimizer wrapper {name!r} of '
            f'{cfg.filename}; expected one of {", ".join(known)}.')
    if has_accelerator():
        wrapper['type'] = 'mmengine.AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
    else:
        wrapper['type'] = 'osar_plugin.CPUAmpOptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)
    print_log(f'Mixed precision: {wrapper["type"]}', logger='current')


def check_amp(cfg: Config) -> None:
    """Whether a model can be run in mixed precision here.

    Raises:
        ConfigError: For detectors on a CPU.
    """
    if cfg.get('default_scope') == 'mmdet' and not has_accelerator():
        raise ConfigError(
            "--amp: a detector of MMDetection needs mmcv's operators, which "
            'know no bfloat16 on a CPU. Leave the flag out, or use a GPU.')


def use_full_precision(cfg: Config) -> None:
    """Train in float32 where a config asks for a GPU's mixed precision.

    MMEngine's wrapper does not start without an accelerator. Weights and
    checkpoints are the same; ``--amp`` asks for bfloat16 on a CPU.
    """
    wrapper = cfg.get('optim_wrapper')
    if not wrapper or wrapper.get('type', '').rpartition('.')[2] != (
            'AmpOptimWrapper'):
        return
    wrapper['type'] = 'mmengine.OptimWrapper'
    for key in ('loss_scale', 'dtype', 'use_fsdp'):
        wrapper.pop(key, None)
    print_log(
        'The config trains in mixed precision of a GPU (AmpOptimWrapper) '
        'and there is none here: float32 is used.', logger='current',
        level=logging.WARNING)


def has_accelerator() -> bool:
    """Whether MMEngine would put the model on something else than a CPU."""
    from mmengine.device import get_device
    return get_device() != 'cpu'


def prepare_runtime(cfg: Config, launcher: str) -> None:
    """Get a process ready for a Runner.

    MMEngine sets up process groups for accelerators only. For several
    processes on CPUs the group is made here, with gloo, and the model is
    wrapped without device ids.
    """
    # Registers with MMEngine, and readies torchvision.
    from .. import registry  # noqa: F401
    from .checkpoint import use_safe_loading

    use_safe_loading()
    cfg.launcher = launcher
    if has_accelerator():
        return
    use_full_precision(cfg)
    if launcher == 'none':
        return
    _init_gloo(launcher)
    use_plain_batch_norm(cfg)
    wrapper: dict[str, Any] = dict(
        type='mmengine.MMDistributedDataParallel',
        broadcast_buffers=False,
        device_ids=None)
    if 'find_unused_parameters' in cfg:
        wrapper['find_unused_parameters'] = cfg.find_unused_parameters
    cfg.setdefault('model_wrapper_cfg', wrapper)


def use_plain_batch_norm(cfg: Config) -> None:
    """Turn SyncBN into BatchNorm, for processes without accelerators.

    PyTorch shares statistics between GPUs only and refuses to wrap a model
    that would do so on CPUs. Names and weights are the same.
    """
    layers = [
        node for _, node in dicts(cfg.get('model'), 'model')
        if str(node.get('type')).rpartition('.')[2] in ('SyncBN', 'MMSyncBN')]
    for node in layers:
        node['type'] = 'BN'
    if layers:
        print_log(
            f'SyncBN is BN here, in {len(layers)} places of the model: '
            'processes on CPUs do not share statistics.', logger='current')


# Where each launcher says rank, world size and rank on the node.
_RANK_VARIABLES = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE',
            'OMPI_COMM_WORLD_LOCAL_RANK'),
}


def _init_gloo(launcher: str) -> None:
    """Make the process group of processes that have no accelerator."""
    if torch.distributed.is_initialized():
        return
    variables = _RANK_VARIABLES[launcher]
    missing = [name for name in variables if name not in os.environ]
    if missing:
        raise ConfigError(
            f'--launcher {launcher}: {", ".join(missing)} not set. Start '
            'the tool with tools/dist_train.sh, srun or mpirun, or leave '
            'the flag out.')
    rank, size, local = (os.environ[name] for name in variables)
    os.environ['LOCAL_RANK'] = local
    nodes = int(os.environ.get('SLURM_NNODES', '1'))
    if nodes > 1 and 'MASTER_ADDR' not in os.environ:
        raise ConfigError(
            f'{nodes} nodes without accelerators need MASTER_ADDR, the host '
            'name of the first. Set it in the environment.')
    os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    os.environ.setdefault('MASTER_PORT', '29500')
    torch.distributed.init_process_group(
        'gloo', rank=int(rank), world_size=int(size))
