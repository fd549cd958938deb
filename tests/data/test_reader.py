import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hbcomp.competitions.competition import load_competition
from hbcomp.data import csv_reader as csv_blocks
from hbcomp.data import reader
from hbcomp.data.columns import find_columns
from hbcomp.data.dataset import Dataset
from hbcomp.data.duplicates import find_duplicates
from hbcomp.data.layout import DataLayout
from hbcomp.data.reader import read_dataset
from hbcomp.data.row_checks import Unusual, parse_rows
from hbcomp.data.synthetic import make_rows, write_competition_csv
from hbcomp.system.errors import InputError

CONFIG = load_competition().file.data
GOOD = 'id,heartbeat_signals,label\n0,"0.5,0.25",0.0\n1,"0.125,1.0",1.0\n'


def write(folder: Path, content: str | bytes, name: str = "beats.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refuse_slow_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> Dataset:
        raise AssertionError("the slow pass was needed")

    monkeypatch.setattr(reader, "parse_rows", refuse)


LAYOUTS = {
    "competition": GOOD,
    "label 0": GOOD.replace("0.0\n", "0\n").replace("1.0\n", "1\n"),
    'label "0"': GOOD.replace("0.0\n", '"0"\n').replace("1.0\n", '"1"\n'),
    "quoted ids": GOOD.replace("\n0,", '\n"0",').replace("\n1,", '\n"1",'),
    "CRLF": GOOD.replace("\n", "\r\n"),
    "BOM": "\ufeff" + GOOD,
    "no final newline": GOOD[:-1],
    "CRLF, BOM, no final newline": "\ufeff" + GOOD[:-1].replace("\n", "\r\n"),
    "quoted header": GOOD.replace("id,heartbeat_signals,label", '"id","heartbeat_signals","label"'),
    "column order": 'label,heartbeat_signals,id\n0,"0.5,0.25",0\n1,"0.125,1.0",1\n',
    "an unused column": 'id,hospital,heartbeat_signals,label\n0,A,"0.5,0.25",0\n1,B,"0.125,1",1\n',
    "wide": "id,s0,s1,label\n0,0.5,0.25,0.0\n1,0.125,1.0,1.0\n",
    "wide, any order": "s0,label,s1,id\n0.5,0,0.25,0\n0.125,1,1,1\n",
    "wide, quoted": 'id,s0,s1,label\n0,"0.5","0.25",0\n1,"0.125","1",1\n',
}
SLOW_LAYOUTS = {
    "blank lines": GOOD.replace("\n", "\n\n"),
    "blanks around numbers": GOOD.replace("0.5,0.25", " 0.5, 0.25 "),
    "quotes in some rows only": GOOD.replace("\n1,", '\n"1",'),
    "CR": GOOD.replace("\n", "\r"),
    "CR, BOM, no final line end": "\ufeff" + GOOD[:-1].replace("\n", "\r"),
    "CR after the header only": GOOD.replace("\n", "\r", 1),
    "wide, CR": "id,s0,s1,label\r0,0.5,0.25,0.0\r1,0.125,1.0,1.0\r",
    "old Mac line ends in data": GOOD.replace('"1.0', '"1.0').replace("0.0\n", "0.0\r"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_beats_on_the_fast_path(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_slow_pass(monkeypatch)
    check_good_beats(read_dataset(write(tmp_path, LAYOUTS[layout]), CONFIG, labelled=True))


@pytest.mark.parametrize("layout", SLOW_LAYOUTS)
def test_unusual_but_clear_files_are_read_row_by_row(layout: str, tmp_path: Path) -> None:
    check_good_beats(read_dataset(write(tmp_path, SLOW_LAYOUTS[layout]), CONFIG, labelled=True))


def check_good_beats(beats: Dataset) -> None:
    assert beats.ids.tolist() == ["0", "1"]
    assert beats.flat.tolist() == [[0.5, 0.25], [0.125, 1.0]]
    assert beats.flat.dtype == np.float32
    assert beats.labels is not None
    assert beats.labels.tolist() == [0, 1]


def test_the_files_text_is_the_id(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("\n0,", "\n007,").replace("\n1,", "\nüñ-1,"))
    assert read_dataset(path, CONFIG, labelled=True).ids.tolist() == ["007", "üñ-1"]


def test_a_test_file_needs_no_labels_and_ignores_them(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("0.0\n", "?\n"))
    assert read_dataset(path, CONFIG, labelled=False).labels is None


def test_columns_can_have_other_names_and_groups_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, 'beat,ecg,class,patient\na,"1,2",0,p1\nb,"3,4",1,p2\n')
    config = DataLayout(id="beat", signal="ecg", label="class", group="patient")
    beats = read_dataset(path, config, labelled=True)
    assert beats.groups is not None
    assert beats.groups.tolist() == ["p1", "p2"]
    assert read_dataset(path, config, labelled=False).groups is None


def test_csv_gzip_and_both_parquet_layouts_have_one_fingerprint(tmp_path: Path) -> None:
    beats = make_rows()
    path = tmp_path / "beats.csv"
    write_competition_csv(path, beats)
    zipped = write(tmp_path, gzip.compress(path.read_bytes()), "beats.csv.gz")
    assert beats.labels is not None
    common = {"id": beats.ids.astype(np.int64), "label": beats.labels.astype(np.int8)}
    lists = tmp_path / "lists.parquet"
    pq.write_table(pa.table({**common, "heartbeat_signals": beats.flat.tolist()}), lists)
    wide = tmp_path / "wide.parquet"
    samples = {f"s{i}": column for i, column in enumerate(beats.flat.T)}
    pq.write_table(pa.table({**common, **samples}), wide)
    for each in (path, zipped, lists, wide):
        assert read_dataset(each, CONFIG, labelled=True).fingerprint == beats.fingerprint, each


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_a_column_between_two_samples_changes_no_bit_read_first_or_again(
    kind: str, tmp_path: Path
) -> None:
    beats = make_rows(n=8, t=3)
    assert beats.labels is not None
    columns = {f"s{i}": beats.flat[:, i].astype(np.float64) for i in range(3)}
    columns |= {"label": beats.labels, "id": beats.ids}
    config = CONFIG.model_copy(update={"group": "g"})
    for position in range(3):
        names = ["id", "s0", "s1", "s2"]
        names[position:position] = ["label"]
        names[2 - position : 2 - position] = ["g"]
        table = pa.table({name: columns.get(name, columns["id"]) for name in names})
        path = tmp_path / f"{position}.{kind}"
        if kind == "parquet":
            pq.write_table(table, path)
        else:
            pc_csv.write_csv(table, path.with_suffix("") if kind == "csv.gz" else path)
        if kind == "csv.gz":
            path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
        read = [read_dataset(path, config, labelled=True) for _ in range(2)]
        for each in read:
            assert each.flat.flags.c_contiguous
            assert each.flat.tolist() == beats.flat.tolist()
            assert each.groups is not None
            assert each.groups.tolist() == each.ids.tolist() == beats.ids.tolist()
            assert find_duplicates(each).n_repeated == 0


def test_a_pandas_index_is_no_sample(tmp_path: Path) -> None:
    path = tmp_path / "wide.parquet"
    names = ["id", "s0", "s1", "label", "__index_level_0__"]
    values = [[0, 1], [0.5, 0.1], [0.2, 0.3], [0, 1], [7, 8]]
    pq.write_table(pa.table(dict(zip(names, values, strict=True))), path)
    assert read_dataset(path, CONFIG, labelled=True).n_timepoints == 2


def test_a_signal_longer_than_the_csv_modules_field_limit_is_read(tmp_path: Path) -> None:
    signal = ",".join(["0.123456789"] * 20_000)
    text = f'id,heartbeat_signals,label\n0,"{signal}",0\n\n1,"{signal}",1\n'
    assert read_dataset(write(tmp_path, text), CONFIG, labelled=True).n_timepoints == 20_000
    assert csv.field_size_limit() == 131_072


def test_rows_that_span_blocks_are_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_slow_pass(monkeypatch)
    beats = make_rows(n=40, t=7)
    path = tmp_path / "beats.csv"
    write_competition_csv(path, beats)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    for n_bytes in (1, 17, 100, 1000):
        monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", n_bytes)
        monkeypatch.setattr("hbcomp.data.cache.VERSION", n_bytes)
        assert read_dataset(path, CONFIG, labelled=True).fingerprint == beats.fingerprint


def test_text_is_rounded_to_float32_once_through_float64(tmp_path: Path) -> None:
    # Halfway between two float32 in decimal, where text -> float32 differs from the two-step way
    # that numpy, pandas and the reference take.
    texts = ["1.00000005960464477540", "0.1", "7.038531e-26", "16777217.0000000001"]
    path = write(
        tmp_path,
        "id,heartbeat_signals,label\n" + "".join(f'{i},"{",".join(texts)}",{i}\n' for i in (0, 1)),
    )
    expected = np.array([float(text) for text in texts]).astype(np.float32)
    np.testing.assert_array_equal(read_dataset(path, CONFIG, labelled=True).flat[0], expected)


# What the fast path accepts, the slow one accepts, with the same values ----------------------

cell_texts = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.floats().map(repr),
    st.text(alphabet='0123456789.eE+-_ na"inf\x0b\t\u0661', max_size=6),
    st.sampled_from(["", "1e39", "0x1p3", "nan(1)", "1e-400", "+1", ".5", "5.", "\x00", "1_0"]),
)
line_ends = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])


@st.composite
def competition_files(draw: st.DrawFn) -> str:
    """Files that are mostly regular, with a little of everything that may be wrong."""
    regular = draw(st.booleans())
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr)
    cells = numbers if regular else st.one_of(numbers, numbers, numbers, cell_texts)
    t = draw(st.integers(1, 3))
    end = draw(line_ends)
    quote_id = draw(st.booleans())
    lines = [draw(st.sampled_from(["", "\ufeff"])) + "id,heartbeat_signals,label"]
    for i in range(draw(st.integers(0, 5))):
        row_id = f'"{i}"' if quote_id else str(i)
        signal = ",".join(draw(cells) for _ in range(t))
        label = draw(st.sampled_from(["0", "1", "1.0", "0.0"]))
        lines.append(f'{row_id},"{signal}",{label}')
    text = end.join(lines) + draw(st.sampled_from([end, ""]))
    if not regular and draw(st.booleans()):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(["", '"', ",", "\n", " ", "\r"])) + text[at + 1 :]
    return text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 4)) == 0 else text


@given(text=competition_files())
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_fast_path_accepts_only_what_the_slow_one_does_with_the_same_values(
    text: str, tmp_path: Path
) -> None:
    path = write(tmp_path, text)
    try:
        columns = find_columns(path, csv_blocks.read_header(path), CONFIG, labelled=True)
        fast = csv_blocks.read_fast(path, columns, lambda _: None)
    except (Unusual, InputError):
        return
    slow = parse_rows(path, csv_blocks.slow_rows(path, columns, lambda _: None), columns)
    assert slow.fingerprint == fast.fingerprint
    check_against_csv_module(fast, text)


def check_against_csv_module(beats: Dataset, text: str) -> None:
    rows = [row for row in csv.reader(io.StringIO(text.lstrip("\ufeff"), newline="")) if row][1:]
    assert beats.ids.tolist() == [row[0] for row in rows]
    samples = [[float(cell) for cell in row[1].split(",")] for row in rows]
    np.testing.assert_array_equal(beats.flat, np.array(samples).astype(np.float32))
    assert beats.labels is not None
    assert beats.labels.tolist() == [int(float(row[2])) for row in rows]


@given(
    signals=st.lists(
        st.lists(
            st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3
        ),
        min_size=2,
        max_size=6,
    )
)
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_written_and_read_again_every_bit_of_a_signal_is_the_same(
    signals: list[list[float]], tmp_path: Path
) -> None:
    labels = np.arange(len(signals), dtype=np.int64) % 2
    ids = np.array([f"beat {i}" for i in range(len(signals))])
    beats = Dataset(ids, np.array(signals, dtype=np.float32), labels)
    path = tmp_path / "beats.csv"
    write_competition_csv(path, beats)
    as_it_stands = CONFIG.model_copy(update={"padding_value": None})
    assert read_dataset(path, as_it_stands, labelled=True).fingerprint == beats.fingerprint


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("value", [0.0, -1.0, None])
def test_what_pads_the_end_of_a_row_is_no_value(
    kind: str, value: float | None, tmp_path: Path
) -> None:
    rows = [[0.0, 1.0, 0.0, 0.0], [-1.0, 2.0, -1.0, -1.0], [0.0] * 4]
    path = tmp_path / f"rows.{kind}"
    if kind == "csv":
        write_competition_csv(path, Dataset(np.array(["a", "b", "c"]), np.array(rows, np.float32)))
    else:
        pq.write_table(pa.table({"id": ["a", "b", "c"], "heartbeat_signals": rows}), path)
    config = CONFIG.model_copy(update={"padding_value": value})
    for _ in range(2):  # the second time from the cache
        found = read_dataset(path, config, labelled=False)
        lengths = [next((4 - i for i, x in enumerate(row[::-1]) if x != value), 0) for row in rows]
        assert (~np.isnan(found.signals[:, 0])).sum(axis=1).tolist() == lengths


@pytest.mark.parametrize("n_bytes", range(0, len(GOOD), 3))
def test_a_file_cut_anywhere_in_a_signal_is_refused(n_bytes: int, tmp_path: Path) -> None:
    path = write(tmp_path, GOOD[:n_bytes])
    last_line_is_whole = n_bytes >= GOOD.rindex('",') + 2 + len("1")
    if last_line_is_whole:
        read_dataset(path, CONFIG, labelled=True)
    else:
        with pytest.raises(InputError, match=r"beats\.csv: "):
            read_dataset(path, CONFIG, labelled=True)


# Wrong input ---------------------------------------------------------------------------------

HEAD = "id,heartbeat_signals,label\n"
WRONG_CSV: dict[str, tuple[str | bytes, str]] = {
    "empty file": ("", "the file is empty"),
    "blank header": ("\n\n", "the first line must name the columns, but it is blank"),
    "header only": (HEAD, "there is a header but no data row"),
    "no id column": (
        'a,heartbeat_signals,label\n0,"1,2",0\n',
        "no column 'id'; the file has 'a', ",
    ),
    "no label column": ('id,heartbeat_signals\n0,"1,2"\n', "no column 'label'; the file has"),
    "nothing but id and label": ("id,label\n0,0\n", "none that could be a time step"),
    "doubled column": ('id,id,heartbeat_signals,label\n0,0,"1",0\n', "column 'id' occurs 2 times"),
    "misspelt signal column": (
        'id,signals,label\n0,"1,2",0\n1,"1,2",1\n',
        "no column 'heartbeat_signals', and the other columns are not a numbered series",
    ),
    "doubled id": (GOOD + '0,"1,2",0\n', "row 3 (id 0): the id occurred before, in row 1"),
    "empty id": (GOOD + ',"1,2",0\n', "row 3: the id is empty"),
    "short row": (GOOD + '2,"1",0\n', "row 3 (id 2): 1 time step, but the first row has 2"),
    "long row": (GOOD + '2,"1,2,3",0\n', "row 3 (id 2): 3 time steps, but the first row has 2"),
    "missing field": (GOOD + '2,"1,2"\n', "row 3 (id 2): 2 fields, but the header has 3"),
    "unquoted signal": (GOOD + "2,1,2,0\n", "row 3 (id 2): 4 fields, but the header has 3"),
    "empty sample": (GOOD + '2,"1,",0\n', "row 3 (id 2): time step 2 is empty"),
    "empty signal": (GOOD + '2,"",0\n', "row 3 (id 2): 1 time step, but the first row has 2"),
    "text": (GOOD + '2,"1,abc",0\n', "row 3 (id 2): time step 2 is not a number: 'abc'"),
    "two wrong samples": (
        GOOD + '2,"x,y",0\n',
        "time step 1 is not a number: 'x', and 1 more like it",
    ),
    "underscore": (GOOD + '2,"1,1_0",0\n', "time step 2 is not a number: '1_0'"),
    "NaN": (GOOD + '2,"nan,1",0\n', "row 3 (id 2): time step 1 is not finite: nan"),
    "infinity": (GOOD + '2,"1,-inf",0\n', "row 3 (id 2): time step 2 is not finite: -inf"),
    "too large": (GOOD + '2,"1,1e39",0\n', "time step 2 is too large for float32: 1e39"),
    "label 1.5": (GOOD + '2,"1,2",1.5\n', "row 3 (id 2): the label must be one of 0, 1, 2, ..., "),
    "label -1": (GOOD + '2,"1,2",-1\n', "but is '-1'"),
    "label text": (GOOD + '2,"1,2",N\n', "but is 'N'"),
    "label nan": (GOOD + '2,"1,2",nan\n', "but is 'nan'"),
    "label huge": (GOOD + '2,"1,2",1e9\n', "the label must be at most 9999, but is '1e9'"),
    "label empty": (GOOD + '2,"1,2",\n', "row 3 (id 2): the label is empty"),
    "hole in the labels": (GOOD + '2,"1,2",3\n', "class 2 has no row (found 0, 1, 3)"),
    "one class": (HEAD + '0,"1,2",0\n', "there must be at least 2 classes"),
    "cut off": (GOOD + '2,"1,', "the file ends inside a quoted field, at line 4: it was cut off"),
    "text after a quote": (GOOD + '2,"1,2"x,0\n', "line 4: ',' expected after '\"'"),
    "NUL": (GOOD + '2,"1,\0",0\n', "line 4 has a NUL byte"),
    "NUL in the header": ("id\0" + GOOD[2:], "line 1 has a NUL byte"),
    "Latin-1 in the header": (b"\xe9," + GOOD.encode(), "there is a byte 0xe9 in line 1"),
    "Latin-1": (GOOD.encode() + b'\xe9,"1,2",0\n', "there is a byte 0xe9 in line 4"),
    "binary": (bytes(range(128, 256)) * 8, "the file must be UTF-8 text, but"),
    "a cut quote in the header": ('id,"label\n', "the header cannot be read"),
    "parquet called csv": (b"PAR1....PAR1", "the name says .csv, but the content is parquet"),
    "gzip called csv": (gzip.compress(b"id"), "the name says .csv, but the content is gzip"),
}


@pytest.mark.parametrize("case", WRONG_CSV)
def test_wrong_csv_files_are_refused_with_file_row_and_reason(case: str, tmp_path: Path) -> None:
    content, message = WRONG_CSV[case]
    path = write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read_dataset(path, CONFIG, labelled=True)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_all_problems_are_reported_at_once_and_the_rest_counted(tmp_path: Path) -> None:
    lines = "".join(f'{i},"x{i}",0\n' for i in range(40))
    with pytest.raises(InputError) as caught:
        read_dataset(write(tmp_path, HEAD + lines), CONFIG, labelled=True)
    assert str(caught.value).count("row ") == 8
    assert str(caught.value).endswith("and 32 more")


def test_a_rule_that_many_rows_break_is_said_once_with_what_they_hold(tmp_path: Path) -> None:
    lines = "".join(f'{i},"1,{"x" * (i < 3)}",{label}\n' for i, label in enumerate("NNVNNVN"))
    path = write(tmp_path, HEAD + lines)
    with pytest.raises(InputError) as caught:
        read_dataset(path, CONFIG, labelled=True)
    assert str(caught.value) == (
        f"{path}: row 1 (id 0) and 2 more: time step 2 is not a number: 'x'; "
        "the label must be one of 0, 1, 2, ..., but is 'N' in 5, 'V' in 2 rows, "
        "first in row 1 (id 0); row 4 (id 3) and 3 more: time step 2 is empty"
    )


def cells_of(*lengths: int) -> str:
    """Return a file with signals of so many characters, all of numbers of seven."""
    texts = [",".join(["0.12345"] * 5000)[:length] for length in lengths]
    return HEAD + "".join(f'{i},"{text}",{i % 2}\n' for i, text in enumerate(texts))


@pytest.mark.parametrize("lengths", [(32_767, 32_767), (32_767, 8_000), (32_767, 32_767, 800)])
def test_signals_that_a_spreadsheet_has_cut_are_refused(
    lengths: tuple[int, ...], tmp_path: Path
) -> None:
    n_cut = lengths.count(32_767)
    with pytest.raises(
        InputError, match=f"{n_cut} of {len(lengths)} signals end at exactly 32,767"
    ):
        read_dataset(write(tmp_path, cells_of(*lengths)), CONFIG, labelled=True)


@pytest.mark.parametrize("first", ["0.123456", "0.1234"])
def test_signals_of_other_lengths_than_a_cut_cell_are_read(first: str, tmp_path: Path) -> None:
    text = cells_of(32_767, 32_767).replace("0.12345", first, 1)
    beats = read_dataset(write(tmp_path, text), CONFIG, labelled=True)
    assert beats.flat.shape == (2, 4096)


TEXTS = ["a", "ü", "007", "-"]
BYTES = [text.encode() for text in TEXTS]


@pytest.mark.parametrize(
    "column",
    [
        *(pa.array(BYTES, kind()) for kind in (pa.string_view, pa.binary_view)),
        *(pa.array(BYTES, kind()) for kind in (pa.binary, pa.large_binary, pa.large_string)),
        *(pa.array(BYTES, kind()).dictionary_encode() for kind in (pa.string, pa.binary)),
    ],
    ids=lambda column: str(column.type),
)
def test_ids_and_groups_are_text_in_every_type_that_parquet_has_for_it(
    column: pa.Array, tmp_path: Path
) -> None:
    path = tmp_path / "beats.parquet"
    signals = [[0.5, 0.25]] * 4
    table = {"id": column, "heartbeat_signals": signals, "label": [0, 1, 0, 1], "patient": column}
    try:
        pq.write_table(pa.table(table), path)
    except pa.ArrowNotImplementedError:
        pytest.skip("this Arrow reads views and cannot write them")
    beats = read_dataset(path, CONFIG.model_copy(update={"group": "patient"}), labelled=True)
    assert beats.ids.tolist() == TEXTS
    assert beats.groups is not None
    assert beats.groups.tolist() == TEXTS


def test_bytes_that_are_no_text_are_refused_as_ids(tmp_path: Path) -> None:
    path = tmp_path / "beats.parquet"
    table = {"id": [b"a", b"\xff"], "heartbeat_signals": [[1.0], [2.0]], "label": [0, 1]}
    pq.write_table(pa.table(table), path)
    with pytest.raises(InputError, match=r"beats\.parquet: a column cannot be read: Invalid UTF8"):
        read_dataset(path, CONFIG, labelled=True)


def test_a_wrong_cell_of_a_wide_file_is_named_by_its_column(tmp_path: Path) -> None:
    names = [f"s{i}" for i in range(9)]
    text = f"id,{','.join(names)},label\n0,{','.join('123x56789')},0\n"
    with pytest.raises(InputError, match=r"row 1 \(id 0\): column 's3' is not a number: 'x'$"):
        read_dataset(write(tmp_path, text), CONFIG, labelled=True)


def test_an_empty_group_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 'id,heartbeat_signals,label,g\n0,"1",0,a\n1,"2",1,\n')
    with pytest.raises(InputError, match=r"row 2 \(id 1\): the group is empty"):
        read_dataset(path, CONFIG.model_copy(update={"group": "g"}), labelled=True)


def make_missing(folder: Path) -> Path:
    return folder / "no.csv"


def make_folder(folder: Path) -> Path:
    path = folder / "folder.csv"
    path.mkdir()
    return path


def make_cut_gzip(folder: Path) -> Path:
    return write(folder, gzip.compress(GOOD.encode())[:-12], "cut.csv.gz")


def make_damaged_gzip(folder: Path) -> Path:
    content = bytearray(gzip.compress(GOOD.encode()))
    content[-6] ^= 255
    return write(folder, bytes(content), "damaged.csv.gz")


UNREADABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (make_missing, "No such file or directory"),
    "a folder": (make_folder, "Is a directory"),
    "cut gzip": (make_cut_gzip, "damaged gzip file"),
    "damaged gzip": (make_damaged_gzip, "damaged gzip file"),
    "unknown name": (lambda f: write(f, GOOD, "a.txt"), "must end in one of .csv, .csv.gz, .pa"),
    "csv called gz": (lambda f: write(f, GOOD, "a.csv.gz"), "the content is neither gzip, zip"),
    "csv called parquet": (lambda f: write(f, GOOD, "a.parquet"), "the name says .parquet, but"),
    "damaged parquet": (lambda f: write(f, b"PAR1 1234567 PAR1", "a.parquet"), "parquet file"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_files_are_refused_with_the_reason(case: str, tmp_path: Path) -> None:
    make, message = UNREADABLE[case]
    path = make(tmp_path)
    with pytest.raises(InputError) as caught:
        read_dataset(path, CONFIG, labelled=True)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_a_file_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")  # chmod would not stop root

    path = write(tmp_path, GOOD)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        read_dataset(path, CONFIG, labelled=True)


IDS, LABELS, SIGNALS = [0, 1], [0, 1], [[0.5, 0.1], [0.2, 0.3]]
WRONG_PARQUET: dict[str, tuple[dict[str, object], str]] = {
    "ragged": ({"heartbeat_signals": [[1.0], [1.0, 2.0]]}, "row 2 (id 1): 2 time steps, but the"),
    "null signal": ({"heartbeat_signals": [[1.0], None]}, "row 2 (id 1): the signal is empty"),
    "null sample": ({"heartbeat_signals": [[1.0], [None]]}, "row 2 (id 1): time step 1 is empty"),
    "NaN": (
        {"heartbeat_signals": [[1.0], [float("nan")]]},
        "row 2 (id 1): time step 1 is not finite",
    ),
    "text": ({"heartbeat_signals": ["1,2", "3,4"]}, "must hold lists of numbers, but holds string"),
    "null id": ({"id": [0, None]}, "row 2: the id is empty"),
    "doubled id": ({"id": [0, 0]}, "row 2 (id 0): the id occurred before, in row 1"),
    "id of wrong type": ({"id": [0.5, 1.5]}, "'id' must hold text or integers, but holds double"),
    "null label": ({"label": [0, None]}, "row 2 (id 1): the label is empty"),
    "label 1.5": ({"label": [0.0, 1.5]}, "row 2 (id 1): the label must be one of 0, 1, 2, ..., "),
    "no row": (
        {
            "id": pa.array([], pa.int64()),
            "heartbeat_signals": pa.array([], pa.list_(pa.float32())),
            "label": pa.array([], pa.int8()),
        },
        "there is a header but no data row",
    ),
}


@pytest.mark.parametrize("case", WRONG_PARQUET)
def test_wrong_parquet_files_are_refused_with_file_row_and_reason(
    case: str, tmp_path: Path
) -> None:
    changed, message = WRONG_PARQUET[case]
    path = tmp_path / "beats.parquet"
    columns = {"id": IDS, "heartbeat_signals": SIGNALS, "label": LABELS} | changed
    pq.write_table(pa.table(columns), path)
    with pytest.raises(InputError) as caught:
        read_dataset(path, CONFIG, labelled=True)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_a_wide_parquet_file_of_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "beats.parquet"
    pq.write_table(pa.table({"id": IDS, "label": LABELS, "s0": ["a", "b"]}), path)
    with pytest.raises(InputError, match="column 's0' must hold numbers, but holds string"):
        read_dataset(path, CONFIG, labelled=True)


def test_a_cut_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "beats.parquet"
    pq.write_table(pa.table({"id": IDS, "heartbeat_signals": SIGNALS, "label": LABELS}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="damaged or no parquet file"):
        read_dataset(path, CONFIG, labelled=True)


def test_a_long_read_without_terminal_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reader, "MIN_BYTES_FOR_BAR", 1)
    read_dataset(write(tmp_path, GOOD), CONFIG, labelled=True)
    assert capsys.readouterr().err == "reading beats.csv (0 MB)\n"
