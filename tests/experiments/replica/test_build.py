import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replica.build import INSERTED, as_row, beats_of, build, cut, write

from hbcomp.competitions.load import read_rows
from hbcomp.data.dataset import DataConfig

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # pandas about wfdb
KEPT = np.setdiff1d(np.arange(205), INSERTED)


def values(row):
    """Return a row before its compression."""
    return 2**row - 1


@given(st.integers(2, 400), st.integers(0, 1000))
def test_a_row_is_the_scaled_segment_cut_or_padded_with_means_of_neighbours_between(n, seed):
    segment = np.random.default_rng(seed).standard_normal(n)
    row = values(as_row(segment))
    assert len(row) == 205
    scaled = (segment - segment.min()) / np.ptp(segment)
    assert row[KEPT][:n] == pytest.approx(scaled[:187])
    assert not row[KEPT][n:].any()
    assert row[INSERTED] == pytest.approx((row[INSERTED - 1] + row[INSERTED + 1]) / 2)


def test_a_row_goes_to_the_next_beat_and_a_fifth_of_the_interval_after_it():
    samples = np.arange(2000.0)
    ((row, label),) = beats_of(samples, np.array([300, 600, 1100]), ["V", "N", "N"])
    assert label == 2
    n = len(range(300, 600 + 100, 3))
    assert values(row)[KEPT][:n] == pytest.approx(np.linspace(0, 1, n))
    assert not values(row)[KEPT][n:].any()


def test_fusion_beats_make_no_row_but_end_one_and_other_annotations_do_neither():
    samples = np.sin(np.arange(3000.0))
    positions = np.array([100, 200, 400, 450, 700, 1000])
    symbols = ["N", "+", "F", "~", "A", "/"]
    found = list(beats_of(samples, positions, symbols))
    assert [label for _, label in found] == [0]
    n = len(range(100, 400 + 60, 3))
    assert np.count_nonzero(values(found[0][0])[KEPT]) <= n


def test_a_flat_segment_makes_no_row():
    assert not list(beats_of(np.ones(900), np.array([0, 300, 600]), ["N", "N", "N"]))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Return a folder with two records of 60 beats each, all classes among them."""
    wfdb = pytest.importorskip("wfdb", reason="wfdb is in the extra `replica`")
    folder = tmp_path_factory.mktemp("records")
    rng = np.random.default_rng(0)
    about = {"fs": 360, "units": ["mV"] * 2, "sig_name": ["MLII", "V1"], "fmt": ["16"] * 2}
    for name in ("100", "101"):
        positions = np.cumsum(rng.integers(250, 350, 60))
        signal = rng.standard_normal((positions[-1] + 400, 2)).cumsum(axis=0) / 50
        symbols = np.array(["N", "A", "V", "/", "F", "L"])[np.arange(60) % 6]
        with warnings.catch_warnings(action="ignore"):  # of pandas about wfdb
            wfdb.wrsamp(name, p_signal=signal, write_dir=str(folder), **about)
            wfdb.wrann(name, "atr", positions, symbols, write_dir=str(folder))
    (folder / "102.hea").write_text("no annotations beside it")
    return folder


def test_records_become_a_data_set_of_the_wanted_sizes_that_hbcomp_reads(records, tmp_path):
    pytest.importorskip("imblearn", reason="imbalanced-learn is in the extra `replica`")
    counts, parts = (30, 25, 22, 40), {"train": 77, "testA": 30, "testB": 10}
    tables = build(records, counts, parts)
    assert [len(table) for table in tables.values()] == [77, 30, 10]
    labels = np.concatenate([table["label"] for table in tables.values()])
    assert np.bincount(labels).tolist() == list(counts)
    again = build(records, counts, parts)
    assert all(tables[name].map(str).equals(again[name].map(str)) for name in tables)
    write(tables, tmp_path)
    train = read_rows(tmp_path / "train.parquet", DataConfig(), labelled=True)
    assert train.signals.shape == (77, 1, 205)
    assert np.array_equal(train.labels, tables["train"]["label"])
    assert "label" not in (tmp_path / "testA.parquet").read_bytes().decode("latin1")


def test_rows_beyond_the_recorded_ones_lie_between_two_of_their_class(records):
    pytest.importorskip("imblearn", reason="imbalanced-learn is in the extra `replica`")
    tables = build(records, (10, 30, 10, 10), {"train": 60})
    rows = np.stack(tables["train"]["heartbeat_signals"])[tables["train"]["label"] == 1]
    n_between = 0
    for row in rows:
        gaps = rows - row
        lengths = np.linalg.norm(gaps, axis=1)
        directions = gaps[lengths > 1e-4] / lengths[lengths > 1e-4, None]
        n_between += (directions @ directions.T).min() < -0.999
    assert n_between >= 30 - 20, "each of the 20 recorded rows may lie between others by chance"


def test_the_parts_have_numbers_throughout_and_share_no_row():
    rows = np.arange(205 * 9.0).reshape(9, 205)
    parts = cut(rows, np.zeros(9, int), {"train": 5, "testA": 3}, np.random.default_rng(1))
    assert np.concatenate([part["id"] for part in parts.values()]).tolist() == list(range(8))
    seen = [signal[0] for part in parts.values() for signal in part["heartbeat_signals"]]
    assert len(set(seen)) == 8
