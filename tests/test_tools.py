"""The command line: help, errors, and a whole small run."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from osar_plugin.utils.config import load_config
from osar_plugin.utils.errors import ConfigError

REPO = Path(__file__).resolve().parents[1]
TOOLS = sorted(
    str(path.relative_to(REPO / 'tools'))
    for path in (REPO / 'tools').rglob('*.py'))
SCRIPTS = sorted((REPO / 'tools').glob('*.sh'))

# The published recipe with everything made small; it changes no part.
TINY = f"""
_base_ = [r'{REPO / 'configs' / 'sdfnet_hoss.py'}']
_pipeline = [
    dict(type='osar_plugin.LoadOpticalOrSAR'),
    dict(type='osar_plugin.ShipSize'),
    dict(type='osar_plugin.SARToUint8'),
    dict(type='osar_plugin.PillowResize', size=(64, 32)),
    dict(type='osar_plugin.PackReIDInputs'),
]
_loader = dict(batch_size=8, num_workers=0, persistent_workers=False)
model = dict(
    backbone=dict(img_size=(64, 32), embed_dim=24, num_heads=2),
    neck=dict(embed_dim=24),
    head=dict(in_channels=24, num_classes=4),
    init_cfg=None)
train_dataloader = dict(
    **_loader, sampler=dict(batch_size=8, num_instances=2),
    dataset=dict(pipeline=_pipeline))
val_dataloader = dict(**_loader, dataset=dict(pipeline=_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1, val_interval=1)
param_scheduler = dict(total=1, warmup=0)
"""


@pytest.fixture(scope='module')
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp('config') / 'tiny.py'
    file.write_text(TINY, encoding='utf-8')
    return file


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory, tiny: Path,
            tiny_hoss: Path) -> Path:
    """The work dir of a run of one epoch."""
    work_dir = tmp_path_factory.mktemp('run')
    done = subprocess.run(
        [
            os.sys.executable, 'tools/train.py', tiny, '--work-dir', work_dir,
            '--data-root', tiny_hoss, '--seed', '3'
        ],
        cwd=REPO, capture_output=True, text=True, timeout=240,
        env={**os.environ, 'OMP_NUM_THREADS': '1'})  # yapf: disable
    assert done.returncode == 0, done.stderr
    return work_dir


@pytest.mark.parametrize('tool', TOOLS)
def test_help(run_tool: Callable, tool: str) -> None:
    ended = run_tool(tool, '--help')
    assert ended.code == 0, ended.err
    assert 'usage:' in ended.out


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda p: p.name)
def test_scripts_parse_and_explain_themselves(script: Path) -> None:
    subprocess.run(['bash', '-n', script], check=True)
    ended = subprocess.run(['bash', script], capture_output=True, text=True)
    assert ended.returncode == 2
    assert f'tools/{script.name} ' in ended.stderr
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize('tool', ['train.py', 'test.py', 'print_config.py'])
def test_missing_config(run_tool: Callable, tool: str) -> None:
    more = ['weights.pth'] if tool == 'test.py' else []
    ended = run_tool(tool, 'configs/sdfnet_hos.py', *more)
    assert ended.code == 2
    assert '\nerror: ' in ended.err
    assert 'sdfnet_hoss.py' in ended.err
    assert 'make demo' in ended.err
    assert 'Traceback' not in ended.err


def test_typo_in_a_config_key(run_tool: Callable, tmp_path: Path) -> None:
    file = tmp_path / 'typo.py'
    file.write_text(
        TINY.replace('train_dataloader', 'train_dataloder'), encoding='utf-8')
    ended = run_tool('train.py', file)
    assert ended.code == 2
    assert "did you mean 'train_dataloader'" in ended.err


def test_typo_in_an_option(run_tool: Callable, tiny: Path) -> None:
    ended = run_tool('train.py', tiny, '--cfg-options', 'model.nek.fusion=sum')
    assert ended.code == 2
    assert 'model.nek.fusion' in ended.err
    assert "'neck'" in ended.err


def test_missing_data(run_tool: Callable, tiny: Path, tmp_path: Path) -> None:
    """Says where the data is published, its layout and the way without."""
    ended = run_tool('train.py', tiny, '--work-dir', tmp_path, '--data-root',
                     tmp_path / 'nowhere')
    assert ended.code == 2
    assert 'nowhere' in ended.err
    assert 'bounding_box_train' in ended.err
    assert 'make_demo_data.py' in ended.err
    assert 'zenodo' in ended.err.lower()


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_missing_checkpoint(run_tool: Callable, tiny: Path, tool: str,
                            tmp_path: Path) -> None:
    arguments = ['no.pth'] if tool == 'test.py' else ['--resume', 'no.pth']
    ended = run_tool(tool, tiny, *arguments, '--work-dir', tmp_path)
    assert ended.code == 2
    assert 'no.pth' in ended.err


def test_work_dir_whose_checkpoint_is_gone(run_tool: Callable, tiny: Path,
                                           tmp_path: Path) -> None:
    (tmp_path / 'last_checkpoint').write_text('/gone/epoch_1.pth')
    ended = run_tool('test.py', tiny, tmp_path)
    assert ended.code == 2
    assert '/gone/epoch_1.pth' in ended.err


def test_config_without_training(run_tool: Callable, tmp_path: Path) -> None:
    file = tmp_path / 'empty.py'
    file.write_text('my_variable = 1', encoding='utf-8')
    for tool, more in (('train.py', []), ('test.py', ['w.pth'])):
        ended = run_tool(tool, file, *more)
        assert ended.code == 2
        assert 'it has no model' in ended.err


def test_auto_scale_lr_needs_a_base(run_tool: Callable,
                                    tmp_path: Path) -> None:
    file = tmp_path / 'no_base.py'
    file.write_text(
        TINY + 'auto_scale_lr = dict(_delete_=True, enable=False)\n',
        encoding='utf-8')
    ended = run_tool('train.py', file, '--auto-scale-lr')
    assert ended.code == 2
    assert 'base_batch_size' in ended.err


def test_print_config(run_tool: Callable, tiny: Path) -> None:
    ended = run_tool('print_config.py', tiny, '--cfg-options',
                     'train_cfg.max_epochs=7')
    assert ended.code == 0
    assert 'max_epochs=7' in ended.out
    assert 'osar_plugin.AtomicCheckpointHook' in ended.out


def test_run_leaves_curves_and_checkpoints(trained: Path) -> None:
    assert (trained / 'epoch_1.pth').is_file()
    assert list(trained.glob('best_ALL_mAP_*.pth'))
    scalars = next(trained.rglob('scalars.json')).read_text().splitlines()
    keys = {key for line in scalars for key in json.loads(line)}
    assert {'ALL/mAP', 'O2S/mAP', 'S2O/mAP'} <= keys


def test_test_writes_the_table(run_tool: Callable, tiny: Path, trained: Path,
                               tiny_hoss: Path, tmp_path: Path) -> None:
    ended = run_tool('test.py', tiny, trained, '--work-dir', tmp_path,
                     '--data-root', tiny_hoss, '--out', tmp_path / 'out',
                     '--show-dir', tmp_path / 'show', '--rerank',
                     '--cfg-options', 'test_evaluator.rerank.k1=8',
                     'test_evaluator.rerank.k2=3')
    assert ended.code == 0, ended.err
    table = (tmp_path / 'out' / 'table.md').read_text()
    for protocol in ('ALL', 'O2S', 'S2O'):
        assert f'| {protocol} ' in table
    assert 'ALL-rerank' in table
    assert (tmp_path / 'out' / 'results.json').is_file()
    assert (tmp_path / 'out' / 'per_query.csv').is_file()
    assert (tmp_path / 'show' / 'ranked_O2S.png').is_file()


def test_out_refuses_a_pickle(run_tool: Callable, tiny: Path, trained: Path,
                              tiny_hoss: Path) -> None:
    ended = run_tool('test.py', tiny, trained, '--data-root', tiny_hoss,
                     '--out', 'results.pkl')
    assert ended.code == 2
    assert 'folder' in ended.err


def test_resume_with_amp(run_python: Callable, tiny: Path, trained: Path,
                         tiny_hoss: Path, tmp_path: Path) -> None:
    """A second epoch from the first one's checkpoint, in bfloat16."""
    ended = run_python(
        'tools/train.py', tiny, '--work-dir', tmp_path, '--data-root',
        tiny_hoss, '--amp', '--resume', trained / 'epoch_1.pth',
        '--cfg-options', 'train_cfg.max_epochs=2')
    assert ended.code == 0, ended.err
    assert 'resumed epoch: 1' in ended.out + ended.err
    content = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    assert content['meta']['epoch'] == 2
    assert "type='osar_plugin.CPUAmpOptimWrapper'" in content['meta']['cfg']


def test_amp_refuses_another_wrapper(run_tool: Callable, tiny: Path) -> None:
    ended = run_tool('train.py', tiny, '--amp', '--cfg-options',
                     'optim_wrapper.type=mmengine.ApexOptimWrapper')
    assert ended.code == 2
    assert 'ApexOptimWrapper' in ended.err


def test_launcher_without_its_variables(run_tool: Callable, tiny: Path,
                                        monkeypatch: pytest.MonkeyPatch,
                                        tiny_hoss: Path,
                                        tmp_path: Path) -> None:
    for name in ('RANK', 'WORLD_SIZE'):
        monkeypatch.delenv(name, raising=False)
    ended = run_tool('train.py', tiny, '--launcher', 'pytorch', '--work-dir',
                     tmp_path, '--data-root', tiny_hoss)
    assert ended.code == 2
    assert 'dist_train.sh' in ended.err


@pytest.mark.slow
def test_two_processes(trained: Path, tiny: Path, tiny_hoss: Path,
                       tmp_path: Path) -> None:
    """torchrun on CPUs: trains, and evaluates to the table of one process."""
    environment = {
        **os.environ, 'OMP_NUM_THREADS': '1', 'PORT': '29611',
        'PYTHON': os.sys.executable}  # yapf: disable
    common = ['--data-root', tiny_hoss]

    def run(*command: str | Path) -> None:
        done = subprocess.run(
            ['bash', *map(str, command)], cwd=REPO, env=environment,
            capture_output=True, text=True, timeout=240)  # yapf: disable
        assert done.returncode == 0, done.stderr

    run('tools/dist_train.sh', tiny, '2', '--work-dir', tmp_path / 'w',
        *common)
    assert (tmp_path / 'w' / 'epoch_1.pth').is_file()
    checkpoint = trained / 'epoch_1.pth'
    run('tools/dist_test.sh', tiny, checkpoint, '2', '--out',
        tmp_path / 'two', '--work-dir', tmp_path / 'w2', *common)
    subprocess.run(
        [os.sys.executable, 'tools/test.py', tiny, checkpoint, '--out',
         tmp_path / 'one', '--work-dir', tmp_path / 'w1', *common],
        cwd=REPO, env=environment, check=True, capture_output=True,
        timeout=240)  # yapf: disable
    one, two = ((tmp_path / name / 'table.md').read_text()
                for name in ('one', 'two'))
    assert one == two


def test_browse_dataset(run_tool: Callable, tiny: Path, tiny_hoss: Path,
                        tmp_path: Path) -> None:
    """One row per chip, the file's and the pipeline's images in it."""
    from PIL import Image
    sheets = []
    for name in ('a.png', 'b.png'):
        ended = run_tool('analysis/browse_dataset.py', tiny, tmp_path / name,
                         '--data-root', tiny_hoss, '--rows', '3',
                         '--columns', '2')
        assert ended.code == 0, ended.err
        sheets.append(Image.open(tmp_path / name).convert('RGB'))
    # Chips are 48 x 24, inputs 32 x 64 (width x height).
    assert sheets[0].size == (48 + 2 * 32 + 4 * 4, 3 * (64 + 14 + 4) + 4)
    assert sheets[0].tobytes() == sheets[1].tobytes()


def test_what_is_drawn_follows_the_metric(repo, tmp_path) -> None:
    """Not the name of the model, which may be a user's own."""
    tool = runpy.run_path(str(repo / 'tools/test.py'), run_name='tool')
    for name, hook in (
            ('demo/sdfnet_hoss', 'osar_plugin.ReIDVisualizationHook'),
            ('demo/codemae_bright', 'osar_plugin.DamageVisualizationHook')):
        cfg = load_config(repo / f'configs/{name}.py')
        cfg.model.type = 'MyOwn'
        tool['show_in'](cfg, str(tmp_path))
        assert dict(type=hook, out_dir=str(tmp_path)) in cfg.custom_hooks
    cfg.test_evaluator = dict(type='osar_plugin.RegistrationMetric')
    with pytest.raises(ConfigError, match='--show-dir.*codemae_bright.py'):
        tool['show_in'](cfg, str(tmp_path))
