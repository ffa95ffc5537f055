"""What the dicts of a config build, and which arguments that takes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module, metadata
from typing import Any, Literal, NamedTuple

from .config_values import Buildable, loosened, resolve
from .errors import ConfigError, MissingDependencyError
from .names import did_you_mean, nearest, slip

SCOPE = 'osar_plugin'
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Scopes that a config may well name without their being installed.
_FAMILY = frozenset((
    'mmaction', 'mmagic', 'mmdet', 'mmdet3d', 'mmengine', 'mmocr', 'mmpose',
    'mmpretrain', 'mmrotate', 'mmseg', 'mmselfsup', 'mmtrack', 'mmyolo',
    SCOPE))  # yapf: disable
# Those that configs of this package stand on.
_TOOLBOXES = ('mmdet', 'mmpretrain', 'mmseg')


class Argument(NamedTuple):
    """One argument of a class or function.

    Attributes:
        hint: Its type, ``Any`` where unknown.
        default: ``inspect.Parameter.empty`` where there is none.
        required: Whether the config must give it.
    """

    hint: Any
    default: Any
    required: bool


class Target(NamedTuple):
    """What a dict may build.

    Attributes:
        registry: Name of the registry that knows it, may be empty.
        factory: The class or function.
        direct: Whether its builder takes nothing out of the dict and adds
            nothing but what :data:`_SUPPLIED` lists, so that a missing or
            another argument is a fault.
    """

    registry: str
    factory: Callable
    direct: bool = True

    @property
    def exact(self) -> bool:
        """Whether annotations are kept to the letter where it is from."""
        module = getattr(self.factory, '__module__', '') or ''
        return module.split('.')[0] in _EXACT

    @property
    def title(self) -> str:
        """Name for messages."""
        name = getattr(self.factory, '__name__', str(self.factory))
        return 'the data loader' if self.factory is _data_loader else (
            name.lstrip('_'))


# --- dicts without a class, or whose builder reads keys of its own: the
# arguments of these functions are the keys, their annotations the values.


def _the_config(
        model: Buildable | None = None,
        work_dir: str | None = None,
        train_dataloader: dict | None = None,
        val_dataloader: dict | None = None,
        test_dataloader: dict | None = None,
        train_cfg: dict | None = None,
        val_cfg: dict | None = None,
        test_cfg: dict | None = None,
        auto_scale_lr: dict | None = None,
        optim_wrapper: dict | None = None,
        param_scheduler: dict | list | None = None,
        val_evaluator: dict | list[Buildable] | None = None,
        test_evaluator: dict | list[Buildable] | None = None,
        default_hooks: dict[str, Buildable | None] | None = None,
        custom_hooks: list[Buildable] | None = None,
        data_preprocessor: dict | None = None,
        load_from: str | None = None,
        resume: bool = False,
        launcher: Literal['none', 'pytorch', 'slurm', 'mpi'] = 'none',
        env_cfg: dict = {},  # noqa: B006
        log_processor: dict | None = None,
        log_level: Literal['DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL',
                           'WARN', 'FATAL', 'NOTSET'] | int = 'INFO',
        visualizer: Buildable | None = None,
        vis_backends: list[Buildable] | None = None,
        default_scope: str | None = 'mmengine',
        randomness: dict = {},  # noqa: B006
        experiment_name: str | None = None,
        model_wrapper_cfg: dict | None = None,
        find_unused_parameters: bool = False,
        sync_bn: str | None = None,
        compile: bool | dict = False,
        tta_model: dict | None = None,
        tta_pipeline: list | None = None,
        custom_imports: dict | None = None,
        **kwargs: Any) -> None: ...


def _data_loader(
        dataset: Buildable,
        sampler: Buildable,
        batch_sampler: Buildable | None = None,
        batch_size: int = 1,
        collate_fn: Buildable | None = None,
        worker_init_fn: Buildable | None = None,
        num_batch_per_epoch: int | None = None) -> None: ...


def _hook(priority: int | str = 'NORMAL') -> None: ...


def _loop(by_epoch: bool = True) -> None: ...


def _schedule(convert_to_iter_based: bool = False) -> None: ...


def _optim_wrapper(
        optimizer: Buildable, constructor: str | Callable = '',
        paramwise_cfg: dict | None = None) -> None: ...


def _clip_grad(
        max_norm: float,
        norm_type: float | str = 2.,
        error_if_nonfinite: bool = False,
        foreach: bool | None = None,
        type: Literal['norm', 'value'] = 'norm') -> None: ...


def _clip_grad_value(
        clip_value: float, foreach: bool | None = None,
        type: Literal['value'] = 'value') -> None: ...


def _paramwise_cfg(
        custom_keys: dict[str, dict] = {},  # noqa: B006
        bias_lr_mult: float | None = None,
        bias_decay_mult: float | None = None,
        norm_decay_mult: float | None = None,
        flat_decay_mult: float | None = None,
        dwconv_decay_mult: float | None = None,
        dcn_offset_lr_mult: float | None = None,
        bypass_duplicate: bool = False) -> None: ...


def _layer_decay(
        decay_rate: float, num_layers: int | None = None,
        rule: str = 'codemae', rescale_to: int | None = None) -> None: ...


def _custom_keys(
        lr_mult: float = 1., decay_mult: float = 1., lr: float = 0.,
        weight_decay: float = 0., momentum: float = 0.,
        eps: float = 0., **kwargs: Any) -> None: ...


def _env_cfg(
        cudnn_benchmark: bool = False,
        mp_cfg: dict = {},  # noqa: B006
        dist_cfg: dict = {},  # noqa: B006
        resource_limit: int = 4096,
        **kwargs: Any) -> None: ...


def _mp_cfg(
        mp_start_method: Literal['fork', 'spawn', 'forkserver'] = 'fork',
        opencv_num_threads: int = 0) -> None: ...


def _dist_cfg(
        backend: str = 'nccl', init_backend: str = 'torch',
        timeout: int | None = None, **kwargs: Any) -> None: ...


def _auto_scale_lr(
        base_batch_size: int, enable: bool = False) -> None: ...


def _log_processor(
        window_size: int = 10, by_epoch: bool = True,
        mean_pattern: str = '') -> None: ...


def _randomness(
        seed: int | None, diff_rank_seed: bool = False,
        deterministic: bool = False) -> None: ...


def _init_cfg(
        type: Literal['Pretrained'], checkpoint: str,
        optional: bool = False, **kwargs: Any) -> None: ...


THE_CONFIG = Target('', _the_config)
# Read beside the class's own arguments, and before them.
_BUILDERS = {
    'hook': _hook, 'loop': _loop, 'optim_wrapper': _optim_wrapper,
    'parameter scheduler': _schedule, 'log_processor': _log_processor,
}  # yapf: disable
# Where MMEngine takes more than it says.
_CORRECTIONS: dict[str, dict[str, Any]] = {
    'AmpOptimWrapper': {'loss_scale': float | str | dict},
    'EpochBasedTrainLoop': {'max_epochs': float},
    'IterBasedTrainLoop': {'max_iters': float, 'val_interval': float},
}  # yapf: disable
# What builders give to a class, so that the config need not.
_SUPPLIED = {
    'optimizer': {'params'},
    'parameter scheduler': {'optimizer', 'param_name'},
    'data sampler': {'dataset', 'sampler', 'batch_size', 'seed'},
    'loop': {'runner', 'dataloader', 'evaluator'},
    'visualizer': {'name'},
    'vis_backend': {'save_dir'},
}  # yapf: disable
# Registries whose classes are built from the dict of the config as it is.
# Those of others get arguments from the object around them.
_DIRECT = frozenset((
    'hook', 'loop', 'optimizer', 'optim_wrapper', 'parameter scheduler',
    'data sampler', 'dataset', 'transform', 'metric', 'visualizer',
    'vis_backend', 'log_processor'))  # yapf: disable
# Where a dict is of no use without a type.
_SLOTS = re.compile(
    r'param_scheduler\.\d+|(val|test)_evaluator(\.\d+)?'
    r'|(visualizer\.)?vis_backends(\.\d+)?'
    r'|\w+_dataloader\..*\b(pipeline|transforms)\.\d+')
_LAYERS = re.compile(
    r'.*\.(norm|act|conv|upsample|padding|plugin|dcn)_cfg(\.\d+)?')
# Packages whose annotations mean what they say.
_EXACT = frozenset(('mmcv', 'mmengine', 'osar_plugin', 'torch'))


@cache
def arguments(factory: Callable) -> tuple[dict[str, Argument], bool]:
    """The keyword arguments that a class or function takes.

    ``**kwargs`` is followed up the base classes. An argument of a base is
    required only where all constructors before it pass everything on.

    Returns:
        Name to argument, and whether the list is known to be complete.
    """
    if not inspect.isclass(factory):
        return _own_arguments(factory)[:2]
    found: dict[str, Argument] = {}
    passing = True
    for base in inspect.getmro(factory):
        if '__init__' not in base.__dict__ or base is object:
            continue
        own, complete, onward = _own_arguments(base.__dict__['__init__'])
        for name, argument in own.items():
            found.setdefault(name, argument._replace(
                required=argument.required and passing))
        if complete:
            return found, True
        passing = passing and onward
    return found, False


def accepted_arguments(target: Callable) -> tuple[set[str], bool]:
    """Names of :func:`arguments`, and whether they are all."""
    found, complete = arguments(target)
    return set(found), complete


def arguments_of(target: Target) -> tuple[dict[str, Argument], bool]:
    """The keys that a dict may have: its class's and its builder's."""
    found, complete = arguments(target.factory)
    if target.factory is _data_loader:
        from torch.utils.data import DataLoader
        more, complete = arguments(DataLoader)
        found = {**more, **found}
    builder = _BUILDERS.get(target.registry)
    if builder is not None:
        found = {**found, **arguments(builder)[0]}
    complete = complete and target.direct
    if not target.exact:
        found = {
            name: argument._replace(hint=loosened(argument.hint))
            for name, argument in found.items()}
    for name, hint in _CORRECTIONS.get(
            getattr(target.factory, '__name__', ''), {}).items():
        found = {**found, name: found[name]._replace(hint=hint)}
    supplied = _SUPPLIED.get(target.registry, set())
    return {
        name: argument._replace(
            required=argument.required and target.direct
            and name not in supplied)
        for name, argument in found.items()}, complete


def find_type(name: str, scope: str) -> list[tuple[str, Callable]]:
    """Look a ``type`` up in every registry.

    Args:
        name: As a config writes it, with or without a scope.
        scope: Where an unscoped name is looked up first.

    Returns:
        (registry name, class or function) for each registry that knows it.
    """
    found = []
    for root in _root_registries():
        child = root.children.get(name.split('.')[0])
        if child is None and '.' not in name:
            child = root.children.get(scope)
        elif child is None and name.split('.')[0] == SCOPE:
            # The root would look the name up among its own.
            continue
        target = (child or root).get(name)
        if target is not None:
            found.append((root.name, target))
    return found


def targets_of(where: str, path: str, node: dict, scope: str,
               inside_ours: bool = False) -> list[Target]:
    """What a dict of a config may build; empty where that is not known.

    Args:
        where: The file, for messages.
        path: Where the dict stands.
        node: The dict.
        scope: The config's default scope.
        inside_ours: Whether the dict belongs to a class of this package.

    Raises:
        ConfigError: If its type is missing or unknown.
        MissingDependencyError: If its type belongs to a package that is not
            installed.
    """
    given = _given(path, node, scope, inside_ours)
    if given is not None:
        return given
    name = node.get('type')
    if name is None:
        if _SLOTS.fullmatch(path) and 'metrics' not in node:
            raise ConfigError(
                f'{where}: {path} has no type: it needs one, such as '
                f"type='mmengine.…' or type='{SCOPE}.…'.")
        return []
    direct = path == 'model' or inside_ours
    if not isinstance(name, str):
        return [Target('', name, direct)] if callable(name) else []
    # What RandAugment and the like apply gets a magnitude from them.
    handed_on = '.policies.' in path
    return [
        Target(registry, factory, direct or (
            registry in _DIRECT and not handed_on))
        for registry, factory in _look_up(where, path, name, node, scope)]


def check_scope(where: str, scope: Any) -> None:
    """Refuse a default scope that nothing has registered.

    Raises:
        ConfigError: If it is close to one that is known.
        MissingDependencyError: If it belongs to a package that is not
            installed.
    """
    if not isinstance(scope, str) or scope in _known_scopes():
        return
    try:
        import_module(scope)
    except (ImportError, ValueError) as error:
        near = nearest(scope, _known_scopes() | _FAMILY)
        cure = did_you_mean(near)
        if scope in _TOOLBOXES:
            cure = f' {how_to_install(error)}'
        raise MissingDependencyError(
            f'{where}: default_scope={scope!r} is no scope of a package that '
            f'can be imported ({error}).{cure}') from error


def how_to_install(error: ImportError | ValueError) -> str:
    """What to do about a package that cannot be imported."""
    missing = (getattr(error, 'name', None) or '').split('.')
    if missing[:2] == ['mmcv', '_ext'] or 'mmcv._ext' in str(error):
        return (
            "mmcv's compiled operators are missing. Get them with make "
            "setup-full, or, once torch, ninja, psutil and 'setuptools<81' "
            'are installed, with MMCV_WITH_OPS=1 pip install '
            '--force-reinstall --no-deps --no-cache-dir --no-build-isolation '
            f'--no-binary :all: {_mmcv()}')
    if missing[0] in _TOOLBOXES:
        return (f'Install {missing[0]} with the extra onedl-full or '
                'openmmlab-full, or with make setup-full.')
    return 'Install what is missing.'


def _mmcv() -> str:
    """The distribution of mmcv whose operators go with this stack."""
    try:
        metadata.version('onedl-mmcv')
    except metadata.PackageNotFoundError:
        return "'mmcv>=2.1.0,<2.2.0'"
    return f'onedl-mmcv=={metadata.version("onedl-mmcv")}'


def check_constructor(where: str, node: dict, scope: str) -> bool:
    """Check the name of the optimizer wrapper's constructor.

    Returns:
        Whether it reads the wrapper's dict as MMEngine's own does.
    """
    name = node.get('constructor')
    if not isinstance(name, str):
        return not callable(name) or Target('', name).exact
    found = _look_up(
        where, 'optim_wrapper.constructor', name, node, scope)
    return all(Target('', factory).exact for _, factory in found)


def _given(path: str, node: dict, scope: str,
           inside_ours: bool) -> list[Target] | None:
    """The target that a dict has by its place, None if it has by its type."""
    if path in DATALOADERS:
        return [Target('', _data_loader)]
    if inside_ours and path.endswith('.init_cfg'):
        from mmengine.registry import WEIGHT_INITIALIZERS as known
        name = str(node.get('type'))
        return [Target('', _init_cfg)] if (
            name == 'Pretrained' or name not in known.module_dict) else []
    by_place: dict[str, Callable] = {
        'optim_wrapper.clip_grad': (
            _clip_grad_value if node.get('type') == 'value' else _clip_grad),
        'env_cfg': _env_cfg,
        'env_cfg.mp_cfg': _mp_cfg, 'env_cfg.dist_cfg': _dist_cfg,
        'auto_scale_lr': _auto_scale_lr, 'randomness': _randomness,
    }  # yapf: disable
    if path in by_place:
        return [Target('', by_place[path])]
    if path == 'optim_wrapper.paramwise_cfg':
        # Which constructor reads it stands beside it, out of sight from here.
        layers = 'decay_rate' in node
        return [Target('', _layer_decay if layers else _paramwise_cfg)]
    if path.startswith('optim_wrapper.paramwise_cfg.custom_keys.'):
        return [Target('', _custom_keys)]
    if node.get('type') is not None:
        return None
    return _without_type(path, node)


def _without_type(path: str, node: dict) -> list[Target] | None:
    """The classes behind dicts that MMEngine lets go without a ``type``."""
    from mmengine import optim, runner
    if path == 'train_cfg' and 'by_epoch' in node:
        return [Target('loop', runner.EpochBasedTrainLoop
                       if node['by_epoch'] else runner.IterBasedTrainLoop)]
    found = {
        'val_cfg': ('loop', runner.ValLoop),
        'test_cfg': ('loop', runner.TestLoop),
        'optim_wrapper': ('optim_wrapper', optim.OptimWrapper),
        'log_processor': ('log_processor', runner.LogProcessor),
    }.get(path)
    return None if found is None else [Target(*found)]


def _look_up(where: str, path: str, name: str, node: dict,
             scope: str) -> list[tuple[str, Callable]]:
    """The classes of a type's name, or an error that names the nearest."""
    scope = node.get('_scope_', scope)
    _import_scope(where, path, name, scope)
    try:
        every = find_type(name, scope)
        near = [] if every else _nearest_types(name, scope)
    except ImportError as error:
        # Registries import their package on the first look-up.
        raise MissingDependencyError(
            f'{where}: {path}: the type {name!r} was looked up in its '
            f'package, which cannot be imported whole ({error}). '
            f'{how_to_install(error)}') from error
    # A layer's own arguments are split between its builder and torch.
    found = [] if _LAYERS.fullmatch(path) else [
        f for f in every if not f[1].__module__.startswith('torch.nn')]
    # An unscoped name may be read by something else than a registry.
    if not every and ('.' in name or slip(name, near) is not None):
        raise ConfigError(
            f'{where}: {path}: no registry knows the type {name!r}.'
            f'{did_you_mean(near)}')
    return found


def _own_arguments(
        function: Callable) -> tuple[dict[str, Argument], bool, bool]:
    """Keyword arguments of one function.

    Returns:
        Name to argument; whether it takes no others; whether it passes on
        whatever it is given.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}, False, False
    empty = inspect.Parameter.empty
    found = {}
    for name, p in parameters.items():
        if name == 'self' or p.kind not in (
                p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            continue
        hint = Any if p.annotation is empty else resolve(
            p.annotation, function)
        found[name] = Argument(hint, p.default, p.default is empty)
    kinds = {p.kind for p in parameters.values()}
    return (found, inspect.Parameter.VAR_KEYWORD not in kinds,
            {inspect.Parameter.VAR_KEYWORD,
             inspect.Parameter.VAR_POSITIONAL} <= kinds)


def _root_registries() -> list[Any]:
    """MMEngine's root registries, with mmcv's and our parts in them."""
    from mmengine import registry as roots

    # Both register on import; layers and transforms of mmcv go into the
    # roots themselves, ours become children of them.
    for module in ('mmcv.cnn', 'mmcv.transforms', 'osar_plugin.registry'):
        import_module(module)
    return [
        value for value in vars(roots).values()
        if isinstance(value, roots.Registry) and value.parent is None
    ]


def _known_scopes() -> set[str]:
    """Scopes that some registry has, MMEngine's own included."""
    return {'mmengine'}.union(*(root.children for root in _root_registries()))


def _nearest_types(name: str, scope: str) -> list[str]:
    """What a config may have meant where it wrote ``name``."""
    given, dot, last = name.rpartition('.')
    scope, scoped = (given.split('.')[0], True) if dot else (scope, False)
    names: set[str] = set()
    for root in _root_registries():
        child = root.children.get(scope)
        for registry in (child, None if scoped and scope == SCOPE else root):
            if registry is not None:
                registry.import_from_location()
                names |= set(registry.module_dict)
    # Those of the roots go by the scope of MMEngine, mmcv's too.
    scope = scope if scope in _known_scopes() else 'mmengine'
    return [
        f'{scope}.{near}' if scoped else near for near in nearest(last, names)]


def _import_scope(where: str, path: str, name: str, scope: str) -> None:
    """Import the package that a scoped type belongs to."""
    if '.' not in name:
        return
    package, _, rest = name.partition('.')
    try:
        import_module(package)
    except ImportError as error:
        near = [
            f'{other}.{rest}'
            for other in nearest(package, _known_scopes() | _FAMILY, 1)]
        cure = (how_to_install(error) if package in _TOOLBOXES else
                'Install it, or mend the name.')
        raise MissingDependencyError(
            f'{where}: {path}: the type {name!r} belongs to the package '
            f'{package!r}, which cannot be imported ({error}). {cure}'
            f'{did_you_mean(near)}') from error
