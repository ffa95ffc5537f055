"""Pseudo-SAR views join the descriptors of optical images (MOS, CDGF).

Letters: B images of a batch, K views of an optical image, D channels.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from torch import nn

from ..datasets.transforms import LoadOpticalOrSAR
from ..datasets.transforms.loading import OPTICAL, SAR
from ..evaluation.reid import ReIDMetric
from ..registry import HOOKS
from ..utils.checkpoint import bare_model
from ..utils.config_values import require_range
from ..utils.errors import ConfigError, DataFormatError
from .pseudo_views import (
    FolderViews,
    OpticalImage,
    TranslatedViews,
    ViewSource,
    check_optical,
)

SIZES = ('optical', 'view')


@HOOKS.register_module()
class PseudoSARHook(Hook):
    """Fuse descriptors of optical images with those of pseudo-SAR views.

    Cross-modal data generation and feature fusion of MOS, for the test of
    any re-identification config. Before the test, every optical image of
    the data set, queries and gallery alike, gets K views
    (:class:`.TranslatedViews`, :class:`.FolderViews`). When the model has
    predicted a batch, the views of its optical images are encoded by the
    same model as SAR, and each ``feature`` is replaced by
    ``normalise((1 - tau) f_opt + tau mean_k f_k)``. SAR images stay as they
    are, as in the released code: O2S has fused queries, S2O a fused
    gallery, ALL both.

    The fusion is a forward hook of the model, there for the time of the
    test: whatever reads the model's predictions, the metric, pictures or a
    dump, reads the fused features, and views are encoded under the same
    autocast as the images.

    A view goes through the pipeline of the test as an optical file would (8
    bit already, so neither stretched nor denoised; ship size at the optical
    ground sampling distance), and is told to be SAR behind it. So does the
    released code.

    Without a translator's checkpoint and without a folder the hook says so,
    and the evaluation goes on without fusion.

    Args:
        translator: ``dict(config=FILE, checkpoint=FILE)``, to generate views
            with.
        folder: Views that were generated elsewhere.
        views: K, exactly 5 in the released code.
        tau: Share of the views, 0..1; 0.02 in the released evaluation.
        sampler: Settings of the translator's sampler in place of its
            config's, e.g. ``dict(steps=50)``.
        cache_dir: Where generated views are kept; by default
            ``pseudo_sar`` beside the work dir, which all runs share.
        batch_size: Images translated at a time.
        amp: Translate in half precision where the device has it.
        size_from: Ship size of a view: ``'optical'``, that of its optical
            image; or ``'view'``, from the pixels of the view, as the
            released code reads it. They are equal for views of the size of
            their image; whether the authors' were is not published.
        val: Also in validations.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(self,
                 translator: dict[str, Any] | None = None,
                 folder: str | None = None,
                 views: int = 5,
                 tau: float = 0.02,
                 sampler: dict[str, Any] | None = None,
                 cache_dir: str | None = None,
                 batch_size: int | None = None,
                 amp: bool = True,
                 size_from: str = 'optical',
                 val: bool = False) -> None:
        require_range(0, 1, tau=tau)
        require_range(1, views=views, batch_size=batch_size)
        if size_from not in SIZES:
            raise ConfigError(
                f'size_from={size_from!r} is not known: use one of '
                f'{", ".join(SIZES)}.')
        self.translator = _check_translator(translator)
        if self.translator is not None and folder is not None:
            raise ConfigError(
                f'PseudoSARHook has a translator and folder={folder!r}: '
                'views come from one of them. Leave the other out.')
        self.folder = folder
        self.views = views
        self.tau = tau
        self.sampler = sampler
        self.cache_dir = cache_dir
        self.batch_size = batch_size
        self.amp = amp
        self.size_from = size_from
        self.val = val
        self._handle: Any = None
        # Views are looked for once, however many validations there are.
        self._source: ViewSource | None = None
        self._dataset: Any = None

    def before_test_epoch(self, runner: Any) -> None:
        """Get the views ready and begin to fuse."""
        self._begin(runner, runner.test_loop)

    def after_test_epoch(self, runner: Any,
                         metrics: dict[str, float] | None = None) -> None:
        """Stop fusing."""
        self._end()

    def before_val_epoch(self, runner: Any) -> None:
        """The same for a validation, where asked for."""
        if self.val:
            self._begin(runner, runner.val_loop)

    def after_val_epoch(self, runner: Any,
                        metrics: dict[str, float] | None = None) -> None:
        """Stop fusing."""
        self._end()

    def _begin(self, runner: Any, loop: Any) -> None:
        self._end()  # an evaluation that an error ended
        model = bare_model(runner)
        dataset = loop.dataloader.dataset
        if self._dataset is not dataset:
            self._source = self._prepare(runner, model, loop)
            self._dataset = dataset
        if self._source is not None:
            fusion = ViewFusion(
                self._source, loaded_to_packed(dataset), self.tau,
                self.size_from)
            self._handle = model.register_forward_hook(
                fusion, with_kwargs=True)

    def _prepare(self, runner: Any, model: nn.Module,
                 loop: Any) -> ViewSource | None:
        """Views of the loop's data set; None without a translator."""
        source = self._make_source(runner)
        if source is None:
            print_log(
                'NO TRANSLATOR CONFIGURED for PseudoSARHook: descriptors of '
                'optical images are evaluated as they are, without '
                'pseudo-SAR views. Name its weights with --cfg-options '
                'custom_hooks.<i>.translator.checkpoint=FILE, or a folder of '
                'views with custom_hooks.<i>.folder=FOLDER.',
                'current', logging.WARNING)
            return None
        _check_evaluation(model, loop.evaluator.metrics)
        images = optical_images(loop.dataloader.dataset)
        source.prepare(images, next(model.parameters()).device)
        print_log(
            f'Pseudo-SAR views join the descriptors of {len(images)} optical '
            f'images: K={self.views}, tau={self.tau:g}.', 'current')
        return source

    def _end(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _make_source(self, runner: Any) -> ViewSource | None:
        if self.folder is not None:
            return FolderViews(self.folder, self.views)
        if self.translator is None:
            return None
        cache = self.cache_dir or Path(runner.work_dir).parent / 'pseudo_sar'
        return TranslatedViews(
            **self.translator, cache_dir=cache, views=self.views,
            sampler=self.sampler, batch_size=self.batch_size, amp=self.amp)


def _check_translator(
        translator: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The translator's files; None if no checkpoint is named."""
    if translator is None:
        return None
    unknown = set(translator) - {'config', 'checkpoint'}
    if unknown or not translator.get('config'):
        raise ConfigError(
            f'translator={dict(translator)!r} of PseudoSARHook: expected '
            'dict(config=FILE, checkpoint=FILE).')
    return dict(translator) if translator.get('checkpoint') else None


def _check_evaluation(model: nn.Module, metrics: Sequence[Any]) -> None:
    """Refuse models and metrics with which fusion makes no sense."""
    if not callable(getattr(model, 'fuse', None)):
        raise ConfigError(
            f'{type(model).__name__} has no method fuse(optical, views, tau) '
            'and cannot be used with PseudoSARHook. Take the hook out of '
            'custom_hooks, or evaluate a re-identification model.')
    if any(isinstance(m, ReIDMetric) and not m.normalize for m in metrics):
        raise ConfigError(
            'ReIDMetric(normalize=False) compares descriptors of any length, '
            'but fused ones have length 1 beside SAR ones that have not. Set '
            'normalize=True, or take PseudoSARHook out of custom_hooks.')


def optical_images(dataset: Any) -> list[OpticalImage]:
    """Optical images of a data set with rows like those of HOSS.

    Raises:
        DataFormatError: If one is SAR by its name.
        ConfigError: If the rows do not say what they are.
    """
    images = []
    for index in range(len(dataset)):
        row = dataset.get_data_info(index)
        if 'modality' not in row or 'img_path' not in row:
            raise ConfigError(
                f'Row {index} of {type(dataset).__name__} has '
                f'{sorted(row)}: PseudoSARHook needs img_path and modality, '
                'as osar_plugin.HOSS gives them.')
        if row['modality'] == OPTICAL:
            check_optical(row['img_path'])
            images.append(OpticalImage(
                str(row['img_path']), bool(row.get('is_query', False))))
    return images


def loaded_to_packed(dataset: Any) -> list[Any]:
    """Transforms that make an input of the model out of a loaded image."""
    transforms = list(getattr(
        getattr(dataset, 'pipeline', None), 'transforms', ()))
    kept = [t for t in transforms if not isinstance(t, LoadOpticalOrSAR)]
    if len(kept) == len(transforms):
        raise ConfigError(
            f'The pipeline of {type(dataset).__name__} has no '
            'LoadOpticalOrSAR, whose place pseudo-SAR views would take. Use '
            'it in the data set that PseudoSARHook is to act on.')
    return kept


class ViewFusion:
    """Forward hook that fuses what a model predicts.

    Args:
        source: Gives the views of an image.
        transforms: From a loaded image to a packed sample.
        tau: Share of the views.
        size_from: See :class:`PseudoSARHook`.
    """

    def __init__(self, source: ViewSource, transforms: Sequence[Any],
                 tau: float, size_from: str) -> None:
        self.source = source
        self.transforms = transforms
        self.tau = tau
        self.size_from = size_from

    @torch.no_grad()
    def __call__(self, model: Any, args: tuple[Any, ...],
                 kwargs: Mapping[str, Any], output: Any) -> None:
        """Replace ``feature`` of the optical samples of a prediction.

        Args:
            model: The model that has run.
            args: Its positional arguments.
            kwargs: Its keyword arguments; MMEngine gives ``mode`` here.
            output: B samples. Outputs of other modes are left alone.
        """
        if kwargs.get('mode') != 'predict':
            return
        optical = [s for s in output if s.modality == OPTICAL]
        if not optical:
            return
        packed = [
            self._pack(sample, view) for sample in optical
            for view in self.source.read(sample.img_path)]
        # No more at once than the batch has: they fit into the memory.
        size = len(output)
        features = torch.cat([
            _encode(model, packed[i:i + size])
            for i in range(0, len(packed), size)])
        views = features.unflatten(0, (len(optical), -1))
        own = torch.stack([sample.feature for sample in optical])
        fused = model.fuse(own, views.to(own), self.tau)
        for sample, feature in zip(optical, fused, strict=True):
            sample.feature = feature

    def _pack(self, sample: Any, view: np.ndarray) -> dict[str, Any]:
        """A view as the model takes it, told to be SAR."""
        for key in ('img_path', 'ori_shape'):
            if key not in sample.metainfo_keys():
                raise DataFormatError(
                    f'A sample has no {key}: keep it in meta_keys of '
                    'PackReIDInputs, PseudoSARHook needs it.')
        shape = view.shape[:2]
        results: dict[str, Any] = dict(
            img=view, img_path=sample.img_path, img_shape=shape,
            ori_shape=(
                sample.ori_shape if self.size_from == 'optical' else shape),
            modality=OPTICAL)
        for transform in self.transforms:
            results = transform(results)
        results['data_samples'].modality = SAR
        return results


def _encode(model: Any, packed: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    """Descriptors (N, D) of packed samples."""
    data = model.data_preprocessor(
        {key: [part[key] for part in packed] for key in packed[0]})
    features: torch.Tensor = model(**data, mode='tensor')
    return features
