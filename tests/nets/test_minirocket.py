"""The transform against its definition, in plain loops."""

from itertools import combinations

import numpy as np
import pytest
import torch

from hbcomp.nets.minirocket import (
    N_KERNELS,
    MiniRocket,
    kernel_weights,
    padded_and_not,
    spread_dilations,
)


def fitted(shape, n_features=N_KERNELS * 5, seed=0, n=12):
    generator = torch.Generator().manual_seed(seed)
    signals = torch.randn(n, *shape, generator=generator)
    transform = MiniRocket(shape, n_features)
    transform.fit(signals, generator)
    return transform, signals


def slow_features(transform, signals):
    """Return the features by loops over rows, dilations, kernels and positions."""
    n_steps = signals.shape[2]
    found, weights = [], kernel_weights().numpy()
    for signal in signals.double().numpy():
        row, start = [], 0
        for place, (dilation, n_biases) in enumerate(transform.dilations):
            outputs = []
            for kernel, seen in zip(weights, transform.channels[place].numpy(), strict=True):
                values = signal[seen].sum(0)
                at = lambda p: values[p] if 0 <= p < n_steps else 0.0  # noqa: E731, B023
                outputs.append(
                    [
                        sum(w * at(p + (i - 4) * dilation) for i, w in enumerate(kernel))
                        for p in range(n_steps)
                    ]
                )
            for kernels, inside in padded_and_not(dilation, n_steps):
                for number in range(N_KERNELS)[kernels]:
                    own = np.array(outputs[number])[inside]
                    biases = transform.biases[number, start : start + n_biases].numpy()
                    row += [np.mean(own > bias) for bias in biases]
            start += n_biases
        found.append(row)
    return np.array(found)


@pytest.mark.parametrize("shape", [(1, 40), (1, 9), (1, 5), (3, 24)])
def test_features_are_those_of_the_slow_definition(shape):
    transform, signals = fitted(shape, N_KERNELS * 4)
    transform.biases += 1e-3  # some are values of training rows, which rounding puts on any side
    features = transform(signals[:3]).double().numpy()
    slow = slow_features(transform, signals[:3])
    assert features.shape == slow.shape == (3, transform.n_features)
    np.testing.assert_allclose(features, slow, atol=1e-6)


def test_the_kernels_are_all_placements_of_three_twos_among_minus_ones():
    kernels = kernel_weights()
    assert kernels.sum(1).eq(0).all()
    places = {tuple(torch.nonzero(kernel == 2).flatten().tolist()) for kernel in kernels}
    assert places == set(combinations(range(9), 3))


@pytest.mark.parametrize("t", [1, 2, 8, 9, 10, 17, 205, 5000])
@pytest.mark.parametrize("m", [1, 4, 31, 119])
def test_dilations_have_all_biases_and_fit_the_signal(t, m):
    found = spread_dilations(t, m)
    assert sum(n for _, n in found) == m
    assert all(n > 0 for _, n in found)
    assert found[0][0] == 1
    assert all(dilation == 1 or dilation * 8 <= t - 1 for dilation, _ in found)


def test_the_largest_dilation_of_a_power_of_two_is_not_rounded_away():
    assert spread_dilations(8 * 16 + 1, 119)[-1][0] == 16


def test_a_bias_is_a_value_that_training_rows_reach():
    transform, signals = fitted((1, 60))
    assert 0.3 < transform(signals).mean() < 0.7


@pytest.mark.parametrize("shape", [(1, 30), (4, 30)])
def test_features_of_a_row_do_not_depend_on_the_rows_beside_it(shape):
    transform, signals = fitted(shape)
    gap = (transform(signals)[5:6] - transform(signals[5:6])).abs()
    assert gap.max() <= 2 / 30 + 1e-6  # a value that is a bias may round to its other side
    assert gap.mean() < 1e-3


def test_features_do_not_change_when_a_constant_is_added_inside():
    transform, signals = fitted((1, 60))
    start, inside = 0, []
    for dilation, n_biases in transform.dilations:  # the kernels that look at whole windows only
        per_dilation = N_KERNELS * n_biases
        if dilation * 8 < 60:
            inside += range(start + per_dilation // 2, start + per_dilation)
        start += per_dilation
    gap = (transform(signals + 8) - transform(signals))[:, inside].abs()
    assert gap.mean() < 1e-3


def test_every_channel_has_an_influence():
    transform, signals = fitted((5, 30))
    for channel in range(5):
        changed = signals.clone()
        changed[:, channel] = changed[:, channel].flip(1)
        assert not torch.equal(transform(changed), transform(signals))
