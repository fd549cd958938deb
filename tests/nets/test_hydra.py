"""Hydra against its definition, in plain loops."""

import math

import numpy as np
import pytest
import torch

from hbcomp.nets.hydra import N_COMPETING, N_GROUPS, Hydra


def fitted(shape, n=6):
    generator = torch.Generator().manual_seed(0)
    signals = torch.randn(n, *shape, generator=generator)
    transform = Hydra(shape)
    transform.fit(signals, generator)
    return transform, signals


def slow_features(transform, signal):
    """Return the features of one signal by loops over groups, kernels and time steps."""
    difference = np.diff(signal, axis=1) if signal.shape[1] > 1 else np.zeros_like(signal)
    found = []
    for view, values in enumerate((signal, difference)):
        for exponent in range(transform.n_dilations):
            dilation = 2**exponent
            won = np.zeros((N_GROUPS, N_COMPETING))
            lost = np.zeros((N_GROUPS, N_COMPETING))
            kernels = transform.kernels[view, exponent].double().numpy()
            for group in range(N_GROUPS):
                seen = values[transform.channels[view, exponent, group].numpy()].sum(0)
                padded = np.pad(seen, 4 * dilation)
                for step in range(len(seen)):
                    window = padded[step : step + 8 * dilation + 1 : dilation]
                    own = kernels[group * N_COMPETING : (group + 1) * N_COMPETING] @ window
                    won[group, own.argmax()] += own.max()
                    lost[group, own.argmin()] += 1
            found += [won.ravel(), lost.ravel()]
    return np.sqrt(np.concatenate(found).clip(min=0))


@pytest.mark.parametrize("shape", [(1, 20), (3, 20), (1, 5)])
def test_features_are_those_of_the_slow_definition(shape):
    transform, signals = fitted(shape)
    features = transform(signals)
    assert features.shape == (6, transform.n_features)
    for row in range(2):
        slow = slow_features(transform, signals[row].double().numpy())
        np.testing.assert_allclose(features[row], slow, atol=1e-4)


@pytest.mark.parametrize(("t", "n"), [(1, 1), (9, 1), (16, 1), (17, 2), (33, 3), (205, 5)])
def test_dilations_are_the_powers_of_2_at_which_a_kernel_fits(t, n):
    assert Hydra((1, t)).n_dilations == n
    assert n == 1 or 2 ** (n - 1) * 8 <= t - 1


def test_kernels_have_mean_0_and_absolute_sum_1():
    transform, _ = fitted((1, 40))
    assert transform.kernels.sum(3).abs().max() < 1e-6
    assert (transform.kernels.abs().sum(3) - 1).abs().max() < 1e-6


def test_the_counts_of_a_group_are_the_time_steps():
    transform, signals = fitted((1, 40))
    n = N_GROUPS * N_COMPETING
    lost = transform(signals)[:, n : 2 * n].square().view(6, N_GROUPS, N_COMPETING)
    assert torch.allclose(lost.sum(2), torch.tensor(40.0))
    assert math.isclose(lost.sum().item(), 6 * 40 * N_GROUPS, rel_tol=1e-4)
