"""Coefficients, step lists and distributions of the bridge."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from bbdm import golden, inputs
from torch.autograd import gradcheck

from osar_plugin.models.translation.bridge import (
    bridge_loss,
    posterior,
    predict_x0,
    q_sample,
    training_target,
)
from osar_plugin.models.translation.schedule import (
    bridge_schedule,
    mixing,
    step_list,
)
from osar_plugin.utils.errors import ConfigError

OBJECTIVES = ('grad', 'noise', 'ysubx')


@pytest.mark.parametrize('kind', ['linear', 'sin'])
def test_coefficients(kind: str) -> None:
    expected = golden()
    tensors = bridge_schedule(kind).tensors()
    assert len(tensors) == 6
    for name, value in tensors.items():
        assert value.dtype == torch.float32
        gap = np.abs(value.numpy() - expected[f'{kind}_{name}']).max()
        assert gap < 1e-7, name


def test_smaller_variance() -> None:
    value = bridge_schedule(max_var=0.5).variance_t.numpy()
    assert np.abs(value - golden()['linear_mv05_variance_t']).max() < 1e-7


@pytest.mark.parametrize('steps', [5, 10, 20, 50, 100, 200])
def test_linear_steps(steps: int) -> None:
    expected = golden()[f'steps_linear_{steps}']
    assert step_list(1000, steps) == expected.tolist()


def test_cosine_steps_are_the_published_ones_repaired() -> None:
    published = golden()['steps_cosine_200']
    assert published[0] == 1000  # one behind the last index
    steps = step_list(1000, 200, 'cosine')
    assert set(steps) == {min(int(value), 999) for value in published}
    assert steps[0] == 999 and steps[-1] == 0
    assert all(n < t for t, n in zip(steps, steps[1:], strict=False))


@pytest.mark.parametrize('spacing', ['linear', 'cosine'])
@pytest.mark.parametrize('total', [3, 7, 20, 1000])
def test_every_number_of_steps_falls_to_zero(spacing: str,
                                             total: int) -> None:
    for count in range(3, min(total, 60) + 1):
        steps = step_list(total, count, spacing)
        assert steps[0] == total - 1 and steps[-1] == 0
        assert all(n < t for t, n in zip(steps, steps[1:], strict=False))
        assert len(steps) <= count + (spacing == 'cosine')


def test_full_steps() -> None:
    assert step_list(4, None) == step_list(4, 9, 'full') == [3, 2, 1, 0]


@pytest.mark.parametrize('call, words', [
    (lambda: bridge_schedule('cosine'), "'cosine'.*linear, sin"),
    (lambda: bridge_schedule(num_timesteps=1), 'num_timesteps=1.*at least 2'),
    (lambda: bridge_schedule(max_var=0.), r'max_var=0\.0.*above 0'),
    (lambda: step_list(1000, 1001), 'steps=1001.*num_timesteps=1000'),
    (lambda: step_list(1000, 2), 'steps=2.*at least 3'),
    (lambda: step_list(1000, 9, 'sin'), "spacing='sin'.*cosine"),
    (lambda: posterior(bridge_schedule(), 5, 5), 't=5 to n=5'),
    (lambda: posterior(bridge_schedule(), 1000, 5), 't=1000'),
    (lambda: training_target('eps', *[torch.zeros(1)] * 5), "'eps'.*ysubx"),
    (lambda: predict_x0('eps', *[torch.zeros(1)] * 5), "'eps'.*ysubx"),
    (lambda: bridge_loss(torch.zeros(1), torch.zeros(1), 'huber'), 'l1, l2'),
])
def test_bad_arguments(call, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        call()


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_forward_and_losses(objective: str) -> None:
    expected = golden()
    x0, y, noise, prediction, t = inputs()
    schedule = bridge_schedule()
    m = schedule.m_t[t].view(-1, 1, 1, 1)
    d = schedule.variance_t[t].view(-1, 1, 1, 1)
    x_t = q_sample(x0, y, noise, m, d)
    target = training_target(objective, x0, y, noise, m, d)
    recovered = predict_x0(objective, prediction, x_t, y, m, d)
    for name, value in (('q_xt', x_t), ('q_obj', target), ('x0', recovered)):
        np.testing.assert_allclose(
            value, expected[f'{name}_{objective}'], rtol=1e-5, atol=1e-6)
    # The losses of the golden file are those of its stand-in network.
    output = 0.3 * x_t + 0.1 * y + 0.001 * t.view(-1, 1, 1, 1)
    for kind in ('l1', 'l2'):
        loss = float(bridge_loss(output, target, kind))
        assert math.isclose(
            loss, float(expected[f'loss_{kind}_{objective}']), rel_tol=1e-6)


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_a_perfect_prediction_gives_the_target_back(objective: str) -> None:
    x0, y, noise, _, t = (x.double() if x.is_floating_point() else x
                          for x in inputs())
    schedule = bridge_schedule('sin')
    m = schedule.m_t[t].double().view(-1, 1, 1, 1)
    d = schedule.variance_t[t].double().view(-1, 1, 1, 1)
    x_t = q_sample(x0, y, noise, m, d)
    perfect = training_target(objective, x0, y, noise, m, d)
    torch.testing.assert_close(
        predict_x0(objective, perfect, x_t, y, m, d), x0)


def test_ends_of_the_bridge() -> None:
    """m = 0 is the target and m = 1 the source, without noise."""
    x0, y, noise, _, _ = inputs()
    zero, one = torch.zeros(()), torch.ones(())
    assert torch.equal(q_sample(x0, y, noise, zero, zero), x0)
    assert torch.equal(q_sample(x0, y, noise, one, zero), y)


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_gradients(objective: str) -> None:
    x0, y, noise, prediction, _ = (
        x[:1, :1, :2, :2].double() if x.ndim == 4 else x for x in inputs())
    m = torch.tensor(0.3, dtype=torch.float64)

    def loss(x0, y, prediction):
        x_t = q_sample(x0, y, noise, m, 2 * (m - m**2))
        target = training_target(objective, x0, y, noise, m, 2 * (m - m**2))
        back = predict_x0(objective, prediction, x_t, y, m, 2 * (m - m**2))
        return bridge_loss(back, target, 'l2')

    assert gradcheck(loss, tuple(
        x.clone().requires_grad_() for x in (x0, y, prediction)))


def test_posterior_coefficients() -> None:
    schedule = bridge_schedule()
    rows = golden()['posterior_linear200']
    assert len(rows) == 199
    for t, n, s2, *weights in rows:
        step = posterior(schedule, int(t), int(n))
        assert abs(step.std**2 - s2) < 1e-7
        assert np.abs(np.array(step[:3]) - weights).max() < 1e-7


@pytest.mark.parametrize('kind', ['linear', 'sin'])
@pytest.mark.parametrize('max_var', [0.5, 1.])
def test_posterior_closed_form(kind: str, max_var: float) -> None:
    """2 (m - m^2) max_var makes y vanish from the posterior mean."""
    m = torch.from_numpy(mixing(kind, 1000))
    schedule = dataclasses.replace(
        bridge_schedule(kind, max_var=max_var), m_t=m,
        variance_t=2 * (m - m**2) * max_var)
    for t, n in ((999, 998), (999, 1), (500, 100), (5, 1), (1, 0)):
        share = float(m[n] / m[t])
        step = posterior(schedule, t, n)
        closed = 2 * max_var * share * float(m[t] - m[n])
        assert math.isclose(step.std**2, closed, rel_tol=1e-9)
        assert abs(step.x_t_weight - share) < 1e-12
        assert abs(step.x0_weight - (1 - share)) < 1e-12
        assert abs(step.y_weight) < 1e-12


@pytest.mark.parametrize('t, n', [(999, 700), (600, 599), (300, 0)])
def test_posterior_agrees_with_the_marginals(t: int, n: int) -> None:
    """x_n drawn through x_t is distributed as x_n drawn directly.

    Algebra for scalars: mean and variance over the noise of x_t and of the
    step must be those of the marginal at n.
    """
    schedule = bridge_schedule()
    step = posterior(schedule, t, n)
    m_t, d_t = float(schedule.m_t[t]), float(schedule.variance_t[t])
    m_n, d_n = float(schedule.m_t[n]), float(schedule.variance_t[n])
    # Weights of x0 and y in the mean of x_n.
    assert abs(step.x_t_weight * (1 - m_t) + step.x0_weight
               - (1 - m_n)) < 1e-12
    assert abs(step.x_t_weight * m_t + step.y_weight - m_n) < 1e-12
    assert abs(step.x_t_weight**2 * d_t + step.std**2 - d_n) < 1e-12


def test_one_step_posterior_has_the_published_variance() -> None:
    schedule = bridge_schedule()
    for t in (1, 2, 500, 999):
        variance = posterior(schedule, t, t - 1).std**2
        assert math.isclose(
            variance, float(schedule.posterior_variance_t[t]), rel_tol=2e-2)
    assert float(schedule.posterior_variance_t[0]) == 0
