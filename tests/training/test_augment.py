import pytest
import torch

from hbcomp.training.augment import AugmentConfig, augment


@pytest.fixture
def signals():
    batch = torch.rand(200, 20, generator=torch.Generator().manual_seed(0)) + 0.1
    batch[:, 15:] = torch.nan
    return batch


def changed(signals, seed=0, **keys):
    generator = torch.Generator().manual_seed(seed)
    return augment(signals[:, None], AugmentConfig(**keys), generator)[:, 0]


def equal(one, other):
    return torch.equal(one.nan_to_num(-1e9), other.nan_to_num(-1e9))


def test_everything_is_off_by_default(signals):
    assert equal(changed(signals), signals)


def test_scale_multiplies_each_row_by_one_factor_of_the_stated_spread(signals):
    factors = changed(signals, scale=0.1)[:, :15] / signals[:, :15]
    torch.testing.assert_close(factors, factors[:, :1].expand(-1, 15))
    assert 0.08 < factors[:, 0].std() < 0.12
    assert abs(factors[:, 0].mean() - 1) < 0.03


def test_noise_has_the_stated_spread_and_leaves_padding_and_zeros_alone(signals):
    signals[:, 3] = 0
    noisy = changed(signals, noise=0.05)
    assert not noisy[:, 3].any()
    signals, noisy = (each[:, [*range(3), *range(4, 20)]] for each in (signals, noisy))
    assert 0.045 < (noisy - signals)[:, :14].std() < 0.055
    assert noisy[:, 14:].isnan().all()


def test_a_shift_moves_rows_by_whole_samples_within_the_limit(signals):
    moved = changed(signals, shift=2)
    seen = set()
    for before, after in zip(signals, moved, strict=True):
        padded = torch.nn.functional.pad(before, (2, 2), value=torch.nan)
        # padded[2 - s : 22 - s] is the row moved s to the right
        fits = [s for s in range(-2, 3) if equal(padded[2 - s : 22 - s], after)]
        assert fits
        seen.update(fits)
    assert seen == {-2, -1, 0, 1, 2}


def test_the_same_generator_state_changes_the_same_way(signals):
    keys = {"scale": 0.1, "noise": 0.01, "shift": 3}
    assert equal(changed(signals, **keys), changed(signals, **keys))
    assert not equal(changed(signals, **keys), changed(signals, seed=1, **keys))


def test_the_batch_that_comes_in_is_left_alone(signals):
    before = signals.clone()
    changed(signals, scale=0.1, noise=0.01, shift=3)
    assert equal(signals, before)


@pytest.fixture
def channels(signals):
    return torch.stack([signals, 2 * signals, signals.flip(0)], dim=1)


def of_channels(channels, **keys):
    return augment(channels, AugmentConfig(**keys), torch.Generator().manual_seed(0))


def test_the_channels_of_a_row_are_shifted_and_scaled_together(channels):
    moved = of_channels(channels, shift=3, scale=0.2)
    torch.testing.assert_close(moved[:, 1], 2 * moved[:, 0], equal_nan=True)


def test_noise_reaches_a_channel_that_is_zero_where_others_are_not(channels):
    channels[:, 1, :5] = 0
    noisy = of_channels(channels, noise=0.1)
    assert noisy[:, 1, :5].ne(0).all()
    assert noisy[:, :2, 15:].isnan().all()


def test_channel_dropout_zeroes_whole_channels_at_the_stated_share(channels):
    dropped = of_channels(channels, channel_dropout=0.3)
    is_zero = ~dropped.nan_to_num(0.0).any(dim=2)
    assert 0.25 < is_zero.float().mean() < 0.35
    assert equal(dropped[~is_zero], channels[~is_zero])
    assert torch.equal(dropped.isnan(), channels.isnan())


def test_an_amplitude_is_measured_from_rest_and_a_dropped_channel_is_at_rest(channels):
    rest = torch.tensor([[0.5], [0.25], [0.0]])
    generator = torch.Generator().manual_seed(0)
    scaled = augment(channels, AugmentConfig(scale=0.2), generator, rest)
    factors = (scaled - rest) / (channels - rest)
    torch.testing.assert_close(factors[:, 0, :15], factors[:, 1, :15], rtol=1e-3, atol=1e-3)
    dropped = augment(channels, AugmentConfig(channel_dropout=0.9), generator, rest)
    is_changed = (dropped != channels) & ~channels.isnan()
    assert is_changed.any()
    assert torch.equal(dropped[is_changed], rest.expand(channels.shape)[is_changed])
    assert torch.equal(dropped.isnan(), channels.isnan())
