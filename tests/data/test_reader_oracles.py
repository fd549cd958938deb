"""Every reader of other layouts against a slow one of its own: Python's own parsers and loops."""

import csv
import gzip
import io
import math
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hbcomp.competitions.competition import load_competition
from hbcomp.data.foreign_readers import read_arrays, read_long, read_plain, read_ts
from hbcomp.data.layout import DataLayout
from hbcomp.data.reader import read_dataset
from hbcomp.system.errors import InputError

FUZZED = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
PACKINGS = ("", ".gz", ".zip")
HEARTBEAT = load_competition().file.data

# What files hold, and what they must mean: None where a value is missing.
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(-9, 9).map("{:.3f}".format),
    st.floats(-9, 9).map("{:e}".format),
    st.integers(-(10**12), 10**12).map(str),
    st.sampled_from(["0", "-0.0", "1e-320", "1e300", "1E5", "+1.5", ".5", "5.", "1e-45"]),
)
GAPS = st.sampled_from(["", "?", "NaN", "nan", "NA", "null"])
LABELS = st.sampled_from(["0", "1", "-1", "walk", "NA", "1.0", "a b", "läuft"])
LINE_ENDS = st.sampled_from(["\n", "\r\n"])
STARTS = st.sampled_from(["", "\ufeff"])


def number(cell):
    return math.nan if cell in ("", "?", "NaN", "nan", "NA", "null") else float(cell)


def packed(folder, name, text):
    """Write a text as it is or packed, as the end of its name says."""
    path, content = folder / name, text.encode()
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("__MACOSX/._x", "of a Mac")
            archive.writestr("folder/", "")
            archive.writestr("folder/x", content)
    else:
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def same(signals, wanted):
    """Return whether rows have the wanted values bit by bit, a missing one being NaN."""
    return len(signals) == len(wanted) and all(
        np.asarray(one, dtype=np.float64).shape == np.shape(other)
        and np.array_equal(one, other, equal_nan=True)
        for one, other in zip(signals, wanted, strict=True)
    )


@st.composite
def plain_files(draw):
    """Return a file without a header, and its labels and rows."""
    separator, is_first = draw(st.sampled_from([("\t", True), (",", False)]))
    n_steps = draw(st.integers(1, 5))
    rows, labels = [], []
    for place in range(draw(st.integers(1, 5))):
        cells = draw(st.lists(NUMBERS, min_size=n_steps, max_size=n_steps))
        if place and is_first:  # unequal lengths, written as gaps at the end
            cells[draw(st.integers(1, n_steps)) :] = [
                draw(GAPS) for _ in cells[draw(st.integers(1, n_steps)) :]
            ]
            cells = (cells + ["?"] * n_steps)[:n_steps]
        rows.append(cells)
        labels.append(draw(st.sampled_from(["0", "1", "walk", "NA", "2.0"])))
    lines = [
        separator.join([label, *cells] if is_first else [*cells, label])
        for label, cells in zip(labels, rows, strict=True)
    ]
    end = draw(LINE_ENDS)
    text = draw(STARTS) + end.join(lines) + draw(st.sampled_from(["", end, end + end]))
    return text, separator, is_first, labels, rows


@FUZZED
@given(file=plain_files(), packing=st.sampled_from(PACKINGS))
def test_a_file_without_header_is_what_splitting_its_lines_says(tmp_path, file, packing):
    text, separator, is_first, labels, rows = file
    path = packed(tmp_path, f"x.{'tsv' if is_first else 'csv'}{packing}", text)
    found = read_plain(path, labelled=True, is_label_first=is_first, separator=separator)
    wanted = []
    for cells in rows:
        values = [number(cell) for cell in cells]
        while values and math.isnan(values[-1]):
            values.pop()
        wanted.append([values])
    assert found.labels == labels
    assert same(found.signals, wanted)


@st.composite
def ts_files(draw):
    n_channels = draw(st.integers(1, 3))
    cell = st.one_of(NUMBERS, NUMBERS, st.sampled_from(["?", "NaN"]))
    cells = st.lists(cell, min_size=1, max_size=4)
    row = st.lists(cells, min_size=n_channels, max_size=n_channels)
    rows = draw(st.lists(row, min_size=1, max_size=5))
    labels = [draw(LABELS) for _ in rows]
    gap = draw(st.sampled_from(["", " "]))
    end = draw(LINE_ENDS)
    head = ["#a comment", "@problemName x", "@timeStamps false", "@classLabel true 0 1", "@data"]
    lines = [
        ":".join([*((gap + ",").join(channel) for channel in row), label])
        for row, label in zip(rows, labels, strict=True)
    ]
    between = draw(st.sampled_from([end, end + end]))
    body = end.join(head) + end + between.join(lines)
    return draw(STARTS) + body + draw(st.sampled_from(["", end])), labels, rows


@FUZZED
@given(file=ts_files(), packing=st.sampled_from(PACKINGS))
def test_a_ts_file_is_what_splitting_its_lines_says(tmp_path, file, packing):
    text, labels, rows = file
    found = read_ts(packed(tmp_path, f"x.ts{packing}", text))
    wanted = []
    for row in rows:
        longest = max(map(len, row))
        wanted.append(
            [[*map(number, cells), *[math.nan] * (longest - len(cells))] for cells in row]
        )
    assert found.labels == labels
    assert same(found.signals, wanted)


@st.composite
def long_files(draw):
    """Return shuffled lines of `id,step,x,y,label`, and the wanted rows by id."""
    known = st.sampled_from(["a", "b", "NA", "01", "1", "x,y"])
    ids = draw(st.lists(known, min_size=1, unique=True))
    lines = []
    for row_id in ids:
        label = draw(LABELS)
        steps = draw(st.lists(st.integers(-5, 30), min_size=1, max_size=5, unique=True))
        lines += [
            [row_id, str(step), draw(st.one_of(NUMBERS, GAPS)), draw(NUMBERS), label]
            for step in steps
        ]
    return draw(st.permutations(lines))


LONG = DataLayout(layout="long", id="id", order="t", channels=("x", "y"), label="what")


@FUZZED
@given(lines=long_files(), end=LINE_ENDS, start=STARTS, packing=st.sampled_from(PACKINGS))
def test_a_long_table_is_what_a_loop_over_its_lines_says(tmp_path, lines, end, start, packing):
    file = io.StringIO()
    csv.writer(file, lineterminator=end).writerows([["id", "t", "x", "y", "what"], *lines])
    path = packed(tmp_path, f"x.csv{packing}", start + file.getvalue())
    found = read_long(path, LONG, labelled=True)
    by_id = {}
    for row_id, step, x, y, label in lines:
        by_id.setdefault(row_id, (label, {}))[1][int(step)] = (number(x), number(y))
    assert found.ids == list(by_id)
    assert found.labels == [label for label, _ in by_id.values()]
    wanted = [
        np.array([steps[step] for step in sorted(steps)]).T.tolist() for _, steps in by_id.values()
    ]
    assert same(found.signals, wanted)


@FUZZED
@given(lines=long_files())
def test_a_long_parquet_file_is_the_same_as_its_csv(tmp_path, lines):
    names = ["id", "t", "x", "y", "what"]
    columns = dict(zip(names, map(list, zip(*lines, strict=True)), strict=True))
    csv_path = tmp_path / "x.csv"
    with csv_path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *lines])
    typed = columns | {"t": [*map(int, columns["t"])]}
    typed |= {name: [*map(number, columns[name])] for name in ("x", "y")}
    pq.write_table(pa.table(typed), tmp_path / "x.parquet")
    of_csv, of_parquet = (
        read_long(tmp_path / name, LONG, labelled=True) for name in ("x.csv", "x.parquet")
    )
    assert (of_csv.ids, of_csv.labels) == (of_parquet.ids, of_parquet.labels)
    assert same(of_parquet.signals, [signal.tolist() for signal in of_csv.signals])


SMALL = st.one_of(st.floats(-1e30, 1e30).map(repr), st.sampled_from(["1e-45", "-0.0", "7", "1e5"]))


@st.composite
def channel_files(draw):
    """Return a wide file of several channels in any order of columns, and its rows."""
    n_channels, n_steps, n_rows = (draw(st.integers(1, most)) for most in (3, 4, 4))
    form = draw(st.sampled_from(["acc_{c}_{s}", "t{s}_{c}", "{c}{s}"]))
    names = [
        [form.format(c="xyz"[channel], s=step) for step in range(n_steps)]
        for channel in range(n_channels)
    ]
    cells = {
        name: draw(st.lists(SMALL, min_size=n_rows, max_size=n_rows))
        for name in [name for channel in names for name in channel]
    }
    cells |= {"id": [f"r{row}" for row in range(n_rows)], "age": ["7"] * n_rows}
    interleaved = [names[channel][step] for step in range(n_steps) for channel in range(n_channels)]
    series = draw(st.sampled_from([interleaved, [name for channel in names for name in channel]]))
    header = draw(st.sampled_from([["id", *series, "age"], ["age", *series, "id"]]))
    channels = tuple(form.format(c="xyz"[channel], s="{step}") for channel in range(n_channels))
    rows = [[[cells[name][row] for name in channel] for channel in names] for row in range(n_rows)]
    return header, [[cells[name][row] for name in header] for row in range(n_rows)], channels, rows


@FUZZED
@given(
    file=channel_files(),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    suffix=st.sampled_from([".csv", ".csv.gz", ".csv.zip", ".zip", ".parquet"]),
)
def test_a_wide_file_of_channels_is_what_its_column_names_say(tmp_path, file, end, suffix):
    header, lines, channels, rows = file
    path = tmp_path / f"x{suffix}"
    if suffix == ".parquet":
        columns = dict(zip(header, map(list, zip(*lines, strict=True)), strict=True))
        kept = {"id": columns.pop("id")}
        kept |= {name: [*map(float, cells)] for name, cells in columns.items()}
        pq.write_table(pa.table(kept), path)
    else:
        text = io.StringIO()
        csv.writer(text, lineterminator=end).writerows([header, *lines])
        path = packed(tmp_path, path.name, text.getvalue())
    config = DataLayout(layout="wide", channels=channels, ignore=("age",))
    for _ in range(2):  # read, and from the cache
        found = read_dataset(path, config, labelled=False)
        assert np.array_equal(found.signals, np.array(rows, dtype=np.float64).astype(np.float32))


LISTS = "id,heartbeat_signals,label\na,'0.5,1e-3',0\nb,'2,-3',1\n".replace("'", '"')


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.csv.zip", "x.zip"])
def test_lists_in_cells_are_read_from_every_packing(tmp_path, name):
    found = read_dataset(packed(tmp_path, name, LISTS), HEARTBEAT, labelled=True)
    assert found.flat.tolist() == [[0.5, np.float32(1e-3)], [2, -3]]
    assert found.labels.tolist() == [0, 1]


def test_an_archive_must_hold_one_file(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", LISTS)
        archive.writestr("b.csv", LISTS)
    with pytest.raises(InputError, match=r"x\.zip: a \.zip must hold one file, but holds a\.csv"):
        read_dataset(path, HEARTBEAT, labelled=True)


@pytest.mark.parametrize("name", ["x.csv.zip", "x.ts.zip", "x.ts.gz"])
def test_a_damaged_archive_is_refused(tmp_path, name):
    path = packed(tmp_path, name, LISTS * 50)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content[:-8] if name.endswith(".gz") else content))
    with pytest.raises(InputError, match=r"damaged (zip|gzip) file"):
        read_ts(path) if ".ts" in name else read_dataset(path, HEARTBEAT, labelled=True)


@pytest.mark.parametrize(
    ("header", "channels", "message"),
    [
        ("id,x_0,x_1,y_0", ("x_{step}", "y_{step}"), "must have the same time steps in one order"),
        ("id,x_0,y_0,age", ("x_{step}", "y_{step}"), "'age' is of no channel; .*data.ignore"),
        ("id,x_0,x_1", ("x_{step}", "y_{step}"), "no column of the channels y_{step}"),
        ("id,x_1,x_0", ("x_{step}",), "must be in the order of their numbers"),
    ],
)
def test_channels_that_do_not_fit_their_columns_are_refused(tmp_path, header, channels, message):
    path = tmp_path / "x.csv"
    path.write_text(header + "\na" + ",1" * header.count(",") + "\n")
    with pytest.raises(InputError, match=message):
        read_dataset(path, DataLayout(channels=channels), labelled=False)


@FUZZED
@given(
    rows=st.lists(st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3), min_size=2),
    kind=st.sampled_from(["<f4", ">f4", "<f8", "<i4", "<u2"]),
    n_axes=st.sampled_from([2, 3]),
    is_fortran=st.booleans(),
    label_kind=st.sampled_from([int, float, str, bytes]),
)
def test_arrays_hold_their_values_in_every_type_and_order(
    tmp_path, rows, kind, n_axes, is_fortran, label_kind
):
    values = np.abs(rows) if kind == "<u2" else np.array(rows)
    array = values.astype(kind) if n_axes == 2 else values.astype(kind)[:, None]
    texts = [str(row % 2) for row in range(len(rows))]
    labels = [text.encode() if label_kind is bytes else label_kind(text) for text in texts]
    np.savez(
        tmp_path / "x.npz",
        X=np.asfortranarray(array) if is_fortran else array,
        y=np.array(labels),
        ids=np.array(["é" + text for text in map(str, range(len(rows)))]),
    )
    np.save(tmp_path / "x.npy", np.asfortranarray(array) if is_fortran else array)
    np.save(tmp_path / "y.npy", np.array(labels))
    for found in (
        read_arrays(tmp_path / "x.npz"),
        read_arrays(tmp_path / "x.npy", tmp_path / "y.npy"),
    ):
        assert [float(label) for label in found.labels] == [float(text) for text in texts]
        assert same(found.signals, [[row] for row in values.astype(kind).tolist()])


def test_an_array_without_its_labels_or_with_damage_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"y\.npy: No such file"):
        read_arrays(tmp_path / "x.npy", tmp_path / "y.npy")
    np.savez_compressed(tmp_path / "x.npz", X=np.arange(3000.0).reshape(30, 100))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "x.npz").write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"x\.npz: no array that can be read"):
        read_arrays(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", X=np.zeros((2, 3)), y=np.array([b"\xff", b"a"]))
    with pytest.raises(InputError, match="labels must be UTF-8 text"):
        read_arrays(tmp_path / "x.npz")
