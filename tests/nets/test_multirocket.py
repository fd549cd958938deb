"""The poolings against their definitions."""

from itertools import groupby

import pytest
import torch

from hbcomp.nets.multirocket import MultiRocket, four_poolings, longest_stretch


@pytest.mark.parametrize("p", [1, 15, 16, 17, 32, 50, 205])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_longest_stretch_is_that_of_a_loop(p, share):
    generator = torch.Generator().manual_seed(p)
    is_positive = (torch.rand(3, 4, p, generator=generator) < share).float()
    expected = [
        [
            max([len(list(same)) for value, same in groupby(row.tolist()) if value], default=0)
            for row in rows
        ]
        for rows in is_positive
    ]
    assert longest_stretch(is_positive).tolist() == expected


def test_poolings_are_those_of_the_definition():
    above = torch.tensor([[[-1.0, 2.0, 4.0, -3.0, 6.0], [-1.0, -2.0, 0.0, -1.0, -1.0]]])
    share, value, place, stretch = four_poolings(above)
    torch.testing.assert_close(share, torch.tensor([[3 / 5, 0.0]]))
    torch.testing.assert_close(value, torch.tensor([[4.0, 0.0]]))
    torch.testing.assert_close(place, torch.tensor([[7 / 3, -1.0]]))
    torch.testing.assert_close(stretch, torch.tensor([[2.0, 0.0]]))


@pytest.mark.parametrize("t", [1, 2, 10, 40])
@pytest.mark.parametrize("c", [1, 3])
def test_there_are_as_many_features_as_announced(c, t):
    generator = torch.Generator().manual_seed(0)
    signals = torch.randn(5, c, t, generator=generator)
    transform = MultiRocket((c, t), 1_400)
    transform.fit(signals, generator)
    features = transform(signals)
    assert features.shape == (5, transform.n_features) == (5, 1_344)
    assert features.isfinite().all()


def test_a_stretch_looks_at_the_difference_too():
    generator = torch.Generator().manual_seed(0)
    signals = torch.randn(5, 1, 40, generator=generator)
    transform = MultiRocket((1, 40), 1_344)
    transform.fit(signals, generator)
    half = transform.n_features // 2
    of_difference = transform(signals)[:, half:]
    assert torch.equal(of_difference, transform.of_difference(signals.diff(dim=2)))
