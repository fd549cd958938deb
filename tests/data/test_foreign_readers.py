"""Files of other layouts, and what is wrong with them."""

import gzip
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbcomp.data.foreign_readers import read_arrays, read_long, read_plain, read_ts
from hbcomp.data.layout import DataLayout
from hbcomp.data.recordings import Recordings, number_classes, stack_signals
from hbcomp.system.errors import InputError

ROWS = [[0.5, 1.0, 2.0], [3.0, -4.0, 5.0]]


def values(recordings):
    return [signal.tolist() for signal in recordings.signals]


@pytest.mark.parametrize("packing", ["", ".gz", ".zip"])
def test_a_ucr_file_has_its_label_first_and_may_be_packed(tmp_path, packing):
    text = "2\t0.5\t1.0\t2.0\n1\t3.0\t-4.0\t5.0\n"
    path = tmp_path / f"train.tsv{packing}"
    if packing == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("train.tsv", text)
    else:
        path.write_bytes(gzip.compress(text.encode()) if packing else text.encode())
    found = read_plain(path, labelled=True, is_label_first=True, separator="\t")
    assert (values(found), found.labels) == ([[ROWS[0]], [ROWS[1]]], ["2", "1"])


def test_a_csv_without_header_has_its_label_last(tmp_path):
    path = tmp_path / "ecg.csv"
    path.write_text("0.5,1.0,2.0,0.0\n3.0,-4.0,5.0,4.0\n")
    found = read_plain(path, labelled=True, is_label_first=False, separator=",")
    assert (values(found), found.labels) == ([[ROWS[0]], [ROWS[1]]], ["0.0", "4.0"])
    unlabelled = read_plain(path, labelled=False, is_label_first=False, separator=",")
    assert unlabelled.signals[0].shape == (1, 4)


def test_what_is_missing_at_the_end_of_a_row_makes_it_shorter(tmp_path):
    path = tmp_path / "uneven.tsv"
    path.write_text("1\t0.5\tNaN\t2.0\n2\t3.0\t4.0\tNaN\n")
    found = read_plain(path, labelled=True, is_label_first=True, separator="\t")
    assert [signal.shape[1] for signal in found.signals] == [3, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3\n1,2,3,4\n", "Expected 3 fields in line 2, saw 4"),
        ("a,b,c\n1,2,3\n", "row 1: column 1 must hold numbers, but is 'a'"),
        ("1,x,3\ny,2,3\n", "row 2: column 1 must .* is 'y'; row 1: column 2 must .* is 'x'"),
        ("7\n8\n", "only one column, with ',' between columns"),
        ("", "No columns to parse"),
    ],
)
def test_a_file_without_header_that_is_not_numbers_is_refused(tmp_path, text, message):
    path = tmp_path / "ecg.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_plain(path, labelled=True, is_label_first=False, separator=",")


TS = """# a comment
@problemName walk
@timeStamps false
@classLabel true walk run
@data
1,2,3:4,5,6:walk
7,8:9,?:run
"""


def test_a_ts_file_has_a_dimension_between_colons_and_the_label_last(tmp_path):
    path = tmp_path / "walk.ts"
    path.write_text(TS)
    found = read_ts(path)
    assert found.labels == ["walk", "run"]
    assert found.signals[0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert np.array_equal(found.signals[1], [[7, 8], [9, np.nan]], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@classLabel true\n1,2:a\n", "must have a line @data"),
        ("@timeStamps true\n@data\n", "time stamps are not read"),
        ("@targetlabel true\n@data\n", "regression is out of scope"),
        ("@data\n1,x\n", "line 2: 'x' is not a number"),
    ],
)
def test_a_ts_file_that_cannot_be_read_says_why(tmp_path, text, message):
    path = tmp_path / "walk.ts"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_ts(path)


def test_arrays_come_alone_with_their_labels_or_in_an_archive(tmp_path):
    signals = np.arange(12.0).reshape(2, 2, 3)
    np.save(tmp_path / "x.npy", signals)
    np.save(tmp_path / "y.npy", np.array([1, 0]))
    np.savez(tmp_path / "all.npz", X=signals, y=np.array(["b", "a"]), ids=np.array([7, 9]))
    alone = read_arrays(tmp_path / "x.npy", tmp_path / "y.npy")
    assert (np.stack(alone.signals).tolist(), alone.labels) == (signals.tolist(), ["1", "0"])
    packed = read_arrays(tmp_path / "all.npz")
    assert (packed.ids, packed.labels) == (["7", "9"], ["b", "a"])
    assert alone.names == ["0", "1"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"features": np.zeros((2, 3))}, "needs the signals under one of signals, X, x, data"),
        ({"X": np.zeros(3)}, r"shape \(n, t\) or \(n, c, t\)"),
        ({"X": np.zeros((2, 3)), "y": np.zeros(3)}, r"labels must have the shape \(2,\)"),
        ({"X": np.array([["a"]])}, "signals must be numbers"),
    ],
)
def test_an_archive_with_other_parts_is_refused(tmp_path, parts, message):
    np.savez(tmp_path / "all.npz", **parts)
    with pytest.raises(InputError, match=message):
        read_arrays(tmp_path / "all.npz")


def test_pickled_objects_are_never_loaded(tmp_path):
    np.save(tmp_path / "x.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(InputError, match="no array that can be read"):
        read_arrays(tmp_path / "x.npy")


LONG = DataLayout(layout="long", id="rec", order="t", channels=("x", "y"), label="what")


def write_long(tmp_path, lines):
    path = tmp_path / "long.csv"
    path.write_text("rec,t,x,y,what\n" + "\n".join(lines) + "\n")
    return path


def test_a_long_table_keeps_the_order_of_ids_and_sorts_steps(tmp_path):
    path = write_long(tmp_path, ["b,1,3,4,run", "a,0,5,6,walk", "b,0,1,2,run"])
    found = read_long(path, LONG, labelled=True)
    assert (found.ids, found.labels) == (["b", "a"], ["run", "walk"])
    assert values(found) == [[[1, 3], [2, 4]], [[5], [6]]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,0,1,2,run", "a,0,1,2,run"], "id a has t 0 more than once"),
        (["a,0,1,2,run", "a,1,1,2,walk"], "id a has several values of 'what'"),
        (["a,0,x,2,run"], "row 1: column 'x' must hold numbers, but is 'x'"),
        ([",0,1,2,run"], "column 'rec' is empty in row 1"),
    ],
)
def test_a_long_table_with_contradictions_is_refused(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        read_long(write_long(tmp_path, lines), LONG, labelled=True)


def test_a_long_table_without_a_column_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"long\.csv: no column 'z'"):
        read_long(
            write_long(tmp_path, ["a,0,1,2,run"]),
            LONG.model_copy(update={"channels": ("x", "z")}),
            labelled=True,
        )


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(
    ("lines", "message"),
    [
        # 1.5 with a decimal comma: pandas alone would take the cells that remain, or shift them
        (["a,0,1,5,2,run", "a,1,1,5,2,run"], "lines have more cells than the header"),
        (["a,0,1,2,run", "a,1,1,5,2,run"], "Expected 5 fields in line 3, saw 6"),
    ],
)
def test_a_long_table_whose_lines_are_longer_than_its_header_is_refused(
    tmp_path, lines, message, labelled
):
    with pytest.raises(InputError, match=message):
        read_long(write_long(tmp_path, lines), LONG, labelled=labelled)


def test_whole_numbers_beyond_64_bits_are_numbers(tmp_path):
    path = write_long(tmp_path, [f"a,0,{'9' * 30},-{'9' * 30},run"])
    assert values(read_long(path, LONG, labelled=True)) == [[[float("9" * 30)], [-float("9" * 30)]]]


@pytest.mark.parametrize(
    ("pad", "row"), [("end", [1, 2, np.nan, np.nan]), ("start", [np.nan, np.nan, 1, 2])]
)
def test_unequal_lengths_are_padded_where_the_competition_says(pad, row):
    recordings = Recordings([np.array([[1.0, 2.0]]), np.array([[0.0, 0.0, 0.0, 0.0]])])
    signals = stack_signals(recordings, DataLayout(pad=pad), "x")
    np.testing.assert_array_equal(signals[0, 0], row)
    assert not signals[1].any()  # zeros are values


@pytest.mark.parametrize(
    ("missing", "row"),
    [
        ("zero", [0, 1, 0, 3, 0]),
        ("hold", [1, 1, 1, 3, 3]),
        ("mask", [np.nan, 1, np.nan, 3, np.nan]),
    ],
)
def test_missing_values_are_filled_as_the_competition_says(missing, row):
    nan = np.nan
    recordings = Recordings([np.array([[nan, 1.0, nan, 3.0, nan]])])
    signals = stack_signals(recordings, DataLayout(missing=missing), "x")
    np.testing.assert_array_equal(signals[0, 0], row)


def test_a_channel_without_any_value_is_zero():
    recordings = Recordings([np.full((1, 3), np.nan)])
    assert not stack_signals(recordings, DataLayout(missing="hold"), "x").any()


@given(st.lists(st.one_of(st.none(), st.floats(-9, 9, width=32)), min_size=1, max_size=12))
def test_holding_a_value_is_what_a_loop_over_the_steps_does(cells):
    wanted, last = [], None
    for cell in cells:
        last = cell if cell is not None else last
        wanted.append(last)
    first = next((cell for cell in cells if cell is not None), 0.0)
    wanted = [first if cell is None else cell for cell in wanted]
    signal = np.array([[np.nan if cell is None else cell for cell in cells]])
    found = stack_signals(Recordings([signal]), DataLayout(missing="hold"), "x")
    assert found[0, 0].tolist() == wanted


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        ([np.zeros((1, 2)), np.zeros((1, 3))], "must have 2 time steps .* but not id 1;.*pad"),
        ([np.zeros((1, 2)), np.zeros((2, 2))], "must have 1 channels, but not id 1"),
        ([np.array([[np.nan]])], "values are missing for id 0; data.missing"),
        ([np.array([[np.inf]])], "values must be finite, but not those of id 0"),
        ([np.zeros((1, 0))], "at least one time step, but not id 0"),
        ([], "there is no data row"),
    ],
)
def test_rows_that_do_not_fit_are_named(signals, message):
    with pytest.raises(InputError, match=message):
        stack_signals(Recordings(signals), DataLayout(), "file.ts")


@pytest.mark.parametrize(
    ("texts", "classes", "labels"),
    [
        (["run", "walk", "run"], ("run", "walk"), [0, 1, 0]),
        (["10", "9", "10.0"], ("9", "10"), [1, 0, 1]),
        (["1", "5"], ("1", "5"), [0, 1]),
        (["-1", "1"], ("-1", "1"), [0, 1]),
        (["b", "2"], ("2", "b"), [1, 0]),
    ],
)
def test_labels_of_any_kind_get_numbers_in_a_natural_order(texts, classes, labels):
    names = [str(row) for row in range(len(texts))]
    found, found_classes = number_classes(texts, (), names, "x")
    assert (found.tolist(), found_classes) == (labels, classes)


def test_the_order_of_the_classes_is_the_competitions():
    found, classes = number_classes(["a", "b"], ("b", "a", "c"), ["0", "1"], "x")
    assert (found.tolist(), classes) == ([1, 0], ("b", "a", "c"))
    with pytest.raises(InputError, match="labels must be one of b, c, but 'a' is not: id 0"):
        number_classes(["a", "b"], ("b", "c"), ["0", "1"], "x")
    with pytest.raises(InputError, match="the label is empty for id 1"):
        number_classes(["a", " "], (), ["0", "1"], "x")
    with pytest.raises(InputError, match="2 to 10,000 classes, but there are 1"):
        number_classes(["a", "a"], (), ["0", "1"], "x")


@pytest.mark.parametrize("name", ["lost.csv", "lost.parquet"])
def test_a_long_table_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(InputError, match=rf"{name}: No such file or directory"):
        read_long(tmp_path / name, LONG, labelled=True)


def test_a_long_table_of_lists_is_refused(tmp_path):
    columns = {"rec": ["a"], "t": [0], "x": [[1.0, 2.0]], "y": [1.0], "what": ["run"]}
    pq.write_table(pa.table(columns), tmp_path / "long.parquet")
    with pytest.raises(InputError, match="column 'x' must hold one value, not a list"):
        read_long(tmp_path / "long.parquet", LONG, labelled=True)


@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
def test_an_array_file_that_is_cut_is_one_line(tmp_path, name):
    path = tmp_path / name
    (np.savez if name == "x.npz" else np.save)(path, np.zeros((40, 3)))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=rf"{name}: no array that can be read: [^\n]+$"):
        read_arrays(path)
