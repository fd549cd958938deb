"""Overlapping windows: planted ones are found, and no control is reported."""

import numpy as np
import pytest

from hbcomp.data import overlap_sample
from hbcomp.data.dataset import Dataset
from hbcomp.data.overlap_sample import overlap_line, overlap_warnings, sample_overlaps
from hbcomp.data.overlaps import HEAD, MIN_FOUND, find_overlaps
from hbcomp.data.recovered import recover

N, T = 240, 60


def windows(seed, n=N, t=T, hops=(20, 45), n_channels=1):
    """Return shuffled windows of one walk with random hops, scales and offsets, and the pairs.

    A pair is (row, next row): lag; overlaps shorter than a head are left out.
    """
    rng = np.random.default_rng(seed)
    starts = np.cumsum(rng.integers(*hops, n))
    recording = np.cumsum(rng.normal(size=(n_channels, starts[-1] + t)), axis=1)
    signals = np.stack([recording[:, start : start + t] for start in starts])
    low, high = (limit(signals, axis=2, keepdims=True) for limit in (np.min, np.max))
    scale, offset = rng.uniform(0.2, 1, (2, n, n_channels, 1))
    signals = offset + scale * (signals - low) / (high - low)
    order = rng.permutation(n)
    place = np.argsort(order)
    pairs = {
        (int(place[i]), int(place[j])): int(starts[j] - starts[i])
        for i in range(n)
        for j in range(i + 1, min(n, i + t // hops[0] + 2))
        if starts[j] - starts[i] <= t - HEAD
    }
    return signals[order], pairs


def found_in(signals, rows=None):
    signals = signals.astype(np.float32)
    return find_overlaps([signals], np.arange(len(signals)) if rows is None else rows)


def as_dict(pairs):
    ends = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    return dict(zip(ends, pairs.lag.tolist(), strict=True))


def precision_and_recall(found, planted):
    n_right = len(found.items() & planted.items())
    return n_right / max(1, len(found)), n_right / len(planted)


@pytest.mark.parametrize(
    ("decimals", "hops", "n_channels", "recall"),
    [
        (None, (20, 45), 1, 0.99),
        (None, (5, 11), 1, 0.99),
        (4, (20, 45), 1, 0.9),
        (4, (5, 11), 1, 0.9),
        (4, (20, 45), 3, 0.9),
    ],
)
def test_planted_overlaps_are_found_with_their_lags(decimals, hops, n_channels, recall):
    for seed in range(3):
        signals, planted = windows(seed, hops=hops, n_channels=n_channels)
        if decimals is not None:
            signals = signals.round(decimals)
        found = found_in(signals)
        assert found.is_believed
        assert found.n_reversed == 0
        precision, share = precision_and_recall(as_dict(found.pairs), planted)
        assert precision >= 0.98
        assert share >= recall
        assert (found.pairs.n_steps == T - found.pairs.lag).all()


def test_windows_of_unequal_lengths_are_found_wherever_their_padding_is():
    signals, planted = windows(0)
    lengths = np.random.default_rng(1).integers(40, T + 1, N)
    at_end = np.where(np.arange(T) >= lengths[:, None, None], np.nan, signals)
    at_start = np.stack(
        [np.roll(row, T - n, axis=1) for row, n in zip(at_end, lengths, strict=True)]
    )
    whole = {pair: lag for pair, lag in planted.items() if lengths[pair[0]] - lag >= HEAD}
    for signals in (at_end, at_start):
        found = as_dict(found_in(signals).pairs)
        assert precision_and_recall(found, whole) >= (1.0, 0.98)


def test_a_transform_and_inserted_columns_are_undone():
    signals, planted = windows(0)
    means = (signals[:, :, 9:59:10] + signals[:, :, 10:60:10]) / 2
    stretched = np.insert(signals, np.arange(10, 60, 10), means, axis=2)
    columns = np.arange(10, 65, 11)
    stored = np.log2(1 + stretched)
    found = found_in(stored)
    assert (found.transform, found.n_inserted) == ("2^x", 5)
    rows = recover([stored.astype(np.float32)])
    assert rows.kept.tolist() == np.setdiff1d(np.arange(65), columns).tolist()
    assert precision_and_recall(as_dict(found.pairs), planted) >= (1.0, 0.98)


def walks(rng):
    found = np.cumsum(rng.normal(size=(N, T)), axis=1)
    return (found - found.min(axis=1, keepdims=True)) / np.ptp(found, axis=1)[:, None]


def smote(rng):
    """Return rows between two windows each, of which none goes on."""
    signals, _ = windows(0)
    first, second = rng.permutation(N), rng.permutation(N)
    share = rng.random((N, 1))
    return (1 - share) * signals[first, 0] + share * signals[second, 0]


def every_second(_rng):
    """Return every second of windows that overlap their neighbours only."""
    signals, pairs = windows(0, n=2 * N, hops=(35, 45))
    next_row = dict(pairs)
    row = ({a for a, _ in next_row} - {b for _, b in next_row}).pop()
    chain = [row]
    while (row := next((b for a, b in next_row if a == row), None)) is not None:
        chain.append(row)
    return signals[chain[::2], 0]


STEPS = np.arange(T)
CONTROLS = {
    "noise": lambda rng: rng.normal(size=(N, T)),
    "walks without overlap": walks,
    "walks of 4 decimals": lambda rng: walks(rng).round(4),
    "walks of 3 decimals": lambda rng: walks(rng).round(3),
    "smooth rows of 3 decimals": lambda rng: (np.cumsum(walks(rng) - 0.5, axis=1) / 50).round(3),
    "every second window": every_second,
    "every second window of 4 decimals": lambda rng: every_second(rng).round(4),
    "SMOTE rows": smote,
    "sines": lambda rng: np.sin(rng.uniform(0.1, 0.5, (N, 1)) * STEPS + rng.uniform(0, 6, (N, 1))),
    "sines of one frequency": lambda rng: np.sin(0.2 * STEPS + rng.uniform(0, 6, (N, 1))),
    "sines of 3 decimals": lambda rng: np.sin(0.2 * STEPS + rng.uniform(0, 6, (N, 1))).round(3),
    "a periodic shape": lambda rng: (STEPS + rng.integers(0, 25, (N, 1))) % 25 / 25.0,
    "decays": lambda rng: np.exp(-STEPS / rng.uniform(5, 50, (N, 1))),
    "straight lines": lambda rng: STEPS * rng.uniform(1, 2, (N, 1)),
    "0 and 1": lambda rng: rng.integers(0, 2, (N, T)).astype(float),
    "runs of 0 and 1": lambda rng: (walks(rng) > 0.5).astype(float),
    "constants": lambda rng: np.ones((N, T)) * rng.random((N, 1)),
    "equal rows": lambda rng: np.tile(rng.normal(size=(1, T)), (N, 1)),
    "rows without a value": lambda _rng: np.full((N, T), np.nan),
    "rows that are shorter than a head": lambda rng: rng.normal(size=(N, HEAD - 2)),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_no_control_is_reported(name):
    found = found_in(CONTROLS[name](np.random.default_rng(0))[:, None])
    assert not found.is_believed
    assert "go on in another row" not in overlap_line(found)


def test_few_pairs_are_not_believed():
    signals, _ = windows(0, n=MIN_FOUND - 5)
    found = found_in(signals)
    assert 0 < len(found.pairs) < MIN_FOUND
    assert not found.is_believed


def test_a_sample_says_the_share_of_all_rows_within_its_error(monkeypatch):
    signals, planted = windows(0, n=400, hops=(20, 80))
    share = len({row for row, _ in planted}) / 400
    monkeypatch.setattr(overlap_sample, "N_WINDOWS", 150 * (T - HEAD))
    found = sample_overlaps([signals[:300].astype(np.float32), signals[300:].astype(np.float32)])
    assert (found.n_rows, len(found.looked_up)) == (400, 150)
    assert found.is_believed
    assert 0 < found.standard_error < 0.04
    assert abs(found.share - share) < 3 * found.standard_error + 0.02
    assert "of a sample of 150 rows go on in another row" in overlap_line(found)


def test_rows_that_are_long_are_not_sampled(monkeypatch):
    monkeypatch.setattr(overlap_sample, "N_WINDOWS", 49 * (T - HEAD))
    found = sample_overlaps([windows(0)[0].astype(np.float32)])
    assert found is None
    assert "not looked for" in overlap_line(found)


def test_a_warning_needs_overlaps_between_folds():
    signals, _ = windows(0)
    train = Dataset(np.arange(N).astype(str), signals.astype(np.float32))
    folds = np.arange(N) % 5
    (said,) = overlap_warnings(train, folds)
    assert said.endswith("hbcomp groups --overlaps keeps them in one fold")
    assert not list(overlap_warnings(train, np.zeros(N, dtype=np.int64)))
    noise = np.random.default_rng(0).normal(size=(N, 1, T)).astype(np.float32)
    assert not list(overlap_warnings(Dataset(train.ids, noise), folds))
