"""HiViT: parity with the published code, windows, relative positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hierarchical_case import (
    TINY_HIVIT,
    classify,
    close,
    filled,
    golden,
    images,
    randn,
    started,
    stats_close,
)

from osar_plugin.models.backbones import HiViT
from osar_plugin.models.backbones.hierarchical import (
    gather_relative,
    gather_units,
    in_windows,
    relative_index,
    to_map,
)
from osar_plugin.registry import MODELS
from osar_plugin.utils.errors import ConfigError

GRID = (14, 14)


def tiny(**changes: Any) -> Any:
    return started(HiViT(**{**TINY_HIVIT, **changes}))


@pytest.mark.parametrize('attention', ['fused', 'plain'])
def test_stages_and_logits_with_relative_positions(attention):
    expected = golden('hivit')
    model = filled(HiViT(rpe=True, attention=attention))
    with torch.no_grad():
        output = model.trunk(model.embed(images()), GRID)
        pooled, logits = classify(output.tokens, 1000)
    s4, s8 = to_map(output.cells4, GRID), to_map(output.cells8, GRID)
    close(s4[0, ::4, ::8, ::8], expected['stage1_map_s4'])
    close(s8[0, ::4, ::4, ::4], expected['stage2_map_s8'])
    close(output.tokens[:, ::7, ::4], expected['stage3_tokens'])
    close(pooled, expected['pooled'])
    close(logits, expected['logits'])
    stats_close(output.tokens, expected['stage3_stats'])


def test_without_relative_positions_whole_and_masked():
    """Official HiViT-MAE gathers the table as it is."""
    expected = golden('hivit')
    model = filled(HiViT())
    keep = torch.from_numpy(expected['mae_ids_keep']).long()
    with torch.no_grad():
        tokens = model(images())
        masked = model.trunk(model.embed(images()), GRID, keep).tokens
    close(tokens[0, ::7, ::4], expected['norpe_stage3_tokens_s0'])
    close(classify(tokens, 1000)[1], expected['norpe_logits'])
    close(masked[:, ::3, ::4], expected['mae_stage3_tokens'])


def test_maps_of_detection():
    """Official windows, taps and norms, sides that no window divides."""
    expected = golden('hivit')
    model = filled(HiViT(out='maps'))
    assert sum(p.numel() for p in model.parameters()) == 65_791_104
    with torch.no_grad():
        maps = model(randn(0, 1, 3, 256, 320))
    assert [m.shape[1] for m in maps] == model.out_channels
    for level, actual in enumerate(maps):
        stride = 4 << level
        step = max(1, 8 >> level)
        close(actual[0, ::8, ::step, ::step], expected[f'det/s{stride}'])
        stats_close(actual, expected[f'det/s{stride}_stats'])


@pytest.mark.parametrize('arch,classifier,plain', [
    ('tiny', 19_181_668, 19_137_928), ('small', 37_526_464, 37_438_984),
    ('base', 66_418_952, 66_302_312)])
def test_published_sizes(arch, classifier, plain):
    """With fc_norm and a head of 1000 classes, with and without RPE."""
    for rpe, total in ((True, classifier), (False, plain)):
        with torch.device('meta'):
            model = HiViT(arch, rpe=rpe)
        count = sum(p.numel() for p in model.parameters())
        assert count == total - 2 * model.embed_dim - 1000 * (
            model.embed_dim + 1)
        assert 'relative_position_index' not in model.state_dict()


def test_index_of_relative_positions():
    index = relative_index(3)
    for a in range(9):
        for b in range(9):
            row, column = a // 3 - b // 3 + 2, a % 3 - b % 3 + 2
            assert index[a, b] == row * 5 + column
    keep = torch.tensor([[8, 1], [0, 4]])
    pairs = gather_relative(index, keep)
    assert pairs[0].tolist() == [[12, index[8, 1]], [index[1, 8], 12]]
    assert pairs[1, 0, 1] == index[0, 4]


def test_masked_relative_positions_are_those_of_the_kept_units():
    """As if all units were there and only the kept ones attended to."""
    model = tiny(rpe=True).eval()
    x = randn(0, 2, 3, 64, 64)
    keep = torch.tensor([[5, 0, 12], [15, 3, 2]])
    masked = model.trunk(model.embed(x), (4, 4), keep).tokens
    hidden = torch.full((2, 1, 1, 16), -torch.inf)
    for image in range(2):
        hidden[image, ..., keep[image]] = 0.
    tokens = model.trunk(model.embed(x), (4, 4), taps=(5, )).taps[5].flatten(2)
    tokens = tokens + model.absolute_pos_embed
    for block in model.blocks[6:]:
        table = block.attn.relative_position_bias_table
        bias = table[relative_index(4)].permute(2, 0, 1)[None] + hidden
        tokens = tokens + block.attn(block.norm1(tokens), bias)
        tokens = tokens + block.mlp(block.norm2(tokens))
    torch.testing.assert_close(
        masked, gather_units(tokens, keep), rtol=1e-4, atol=1e-4)


def test_windows_one_by_one():
    """Against a loop over windows; the filled-up places take part."""
    x = randn(0, 2, 5 * 7, 6)

    def mix(tokens):  # an attention of sorts: mean over the window
        return tokens + (tokens + 1.).mean(dim=1, keepdim=True)

    out = in_windows(mix, x, (5, 7), 3).view(2, 5, 7, 6)
    filled_up = F.pad(x.view(2, 5, 7, 6), (0, 0, 0, 2, 0, 1))
    for top in (0, 3):
        for left in (0, 3, 6):
            part = filled_up[:, top:top + 3, left:left + 3].flatten(1, 2)
            expected = mix(part).view(2, 3, 3, 6)
            found = out[:, top:top + 3, left:left + 3]
            torch.testing.assert_close(
                found, expected[:, :found.shape[1], :found.shape[2]])


def test_one_window_for_the_whole_image_is_global_attention():
    x = randn(0, 1, 3, 64, 64)
    maps = [tiny(out='maps', **windows).eval()(x) for windows in (
        dict(window_size=0), dict(window_size=4, global_blocks=[]))]
    for a, b in zip(*maps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_which_blocks_have_windows():
    def windows(**settings):
        with torch.device('meta'):
            model = HiViT(**settings)
        return [block.window for block in model.blocks[model.first_main:]]

    found = windows(out='maps')
    assert [i for i, w in enumerate(found) if not w] == [4, 9, 14, 19]
    assert set(found) == {0, 14}
    assert set(windows()) == {0}
    assert set(windows(out='maps', rpe=True)) == {0}
    assert windows(out='maps', arch='tiny', window_size=7,
                   global_blocks=[0]) == [0] + [7] * 9


def test_where_the_maps_are_taken():
    """Officially in the middle of stage one and behind its PatchMerge."""
    x = randn(0, 1, 3, 64, 64)
    for taps, s4, s8 in (('official', 0, 2), ('stage_end', 1, 4)):
        model = tiny(out='maps', taps=taps, window_size=0).eval()
        output = model.trunk(model.embed(x), (4, 4), taps=range(10))
        maps = model(x)
        for actual, index, norm in ((maps[0], s4, model.fpn1),
                                    (maps[1], s8, model.fpn2)):
            torch.testing.assert_close(
                actual, to_map(norm(output.taps[index]), (4, 4)))
    model = tiny(out='maps', out_indices=('H', 'M', 1, -2)).eval()
    assert model.main_taps == [7, 8]
    assert torch.equal(
        tiny(out='map').eval()(x)[0].flatten(2).transpose(1, 2),
        tiny().eval()(x))


@pytest.mark.parametrize('settings', [
    dict(rpe=True), dict(out='maps', window_size=3, global_blocks=[1])])
def test_recomputing_changes_nothing(settings):
    grads = []
    for with_cp in (True, False):
        model = tiny(with_cp=with_cp, drop_path_rate=0.3, **settings).train()
        torch.manual_seed(5)
        out = model(randn(0, 2, 3, 64, 96 if 'out' in settings else 64))
        out = (out, ) if isinstance(out, torch.Tensor) else out
        sum(m.square().mean() for m in out).backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('settings,message', [
    (dict(out='pooled'), "out='pooled'"),
    (dict(taps='middle'), "taps='middle'"),
    (dict(arch='large'), "arch='large'"),
    (dict(arch=dict(embed_dim=32, depths=(1, 1), num_heads=2)),
     'expected three'),
    (dict(arch=dict(embed_dim=32, depths=(2, 1, 2), num_heads=2), out='maps'),
     "Use 'stage_end'"),
    (dict(out='maps', out_indices=('H', 'M', 9, -1)), 'out_indices'),
    (dict(out='maps', out_indices=(0, 1, 2, 3)), 'out_indices'),
    (dict(out='maps', out_indices=('H', 'M', 1.5, 1)), 'out_indices'),
    (dict(window_size=-1), 'window_size=-1'),
    (dict(window_size=4, rpe=True), 'rpe=True with window_size=4'),
    (dict(window_size=4, global_blocks=[4]), 'global_blocks'),
    (dict(window_size=0, global_blocks=[1]), 'has no meaning')])
def test_bad_arguments(settings, message):
    with pytest.raises(ConfigError, match=message):
        HiViT(**{**TINY_HIVIT, **settings})


def test_bad_calls():
    model = tiny(out='maps', window_size=2, global_blocks=[0])
    with pytest.raises(ConfigError, match='window_size=0'):
        model.trunk(model.embed(torch.zeros(1, 3, 64, 64)), (4, 4),
                    torch.zeros(1, 3).long())
    with pytest.raises(ConfigError, match='made for 4 x 4 units.*8 x 4'):
        tiny(rpe=True)(torch.zeros(1, 3, 128, 64))


def test_benchmark(run_tool):
    """Masked images take less time; how much less, the table says."""
    ended = run_tool(
        'benchmark/hivit.py', '--models', 'hivit-tiny', '--batch', '1',
        '--steps', '1', '--ratios', '0', '0.75', '--device', 'cpu',
        '--clock', 'cpu')
    assert ended.code == 0, ended.err
    whole, masked = (
        [float(cell) for cell in line.split('|')[3:6]]
        for line in ended.out.splitlines() if '| fp32 |' in line)
    assert (whole[0], whole[2], masked[0]) == (0., 1., 0.75)
    assert 0 < masked[1] < whole[1]


def test_is_registered():
    assert MODELS.get('osar_plugin.HiViT') is HiViT
