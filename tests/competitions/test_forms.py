"""Files in the forms of other competitions and archives: each ends in a submission."""

import gzip
import io
import zipfile

import numpy as np
import pandas as pd
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from hbcomp.competitions.competition import load_competition
from hbcomp.competitions.infer import Wanted
from hbcomp.competitions.load import load_data
from hbcomp.competitions.submission_form import form_of
from hbcomp.competitions.write import write_competition
from hbcomp.data.dataset import DataConfig
from hbcomp.data.duplicates import find_duplicates
from hbcomp.data.foreign_readers import read_arrays
from hbcomp.data.splits import FoldsConfig, make_folds
from hbcomp.submissions.files import check_submission, submission_bytes
from hbcomp.system.errors import InputError

N, M, T = 12, 6, 8
RNG = np.random.default_rng(0)
TRAIN = np.round(RNG.normal(size=(N, T)), 3)
TEST = np.round(RNG.normal(size=(M, T)), 3)
LABELS = np.arange(N) % 3


def names_of(labels, kind):
    names = {
        "text": ["run", "sit", "walk"],
        "from 1": ["1", "2", "3"],
        "gap": ["0", "1", "4"],
        "signs": ["-1", "0", "1"],
        "floats": ["0.0", "1.0", "2.0"],
    }[kind]
    return [names[label] for label in labels]


def wide(folder, labels, *, id_name="id", suffix=".csv"):
    columns = [f"t{step}" for step in range(T)]
    train, test = (pd.DataFrame(rows, columns=columns) for rows in (TRAIN, TEST))
    if id_name:
        train.insert(0, id_name, [f"a{row}" for row in range(N)])
        test.insert(0, id_name, [f"b{row}" for row in range(M)])
    train["target"] = labels
    for table, name in ((train, "train"), (test, "test")):
        if suffix == ".parquet":
            table.to_parquet(folder / f"{name}.parquet", index=False)
        else:
            table.to_csv(folder / f"{name}{suffix}", index=False)
    return folder / f"train{suffix}", folder / f"test{suffix}"


def channels(folder, labels):
    """Write a wide file whose signals have two channels, the second one being the negative."""
    names = [f"acc_{channel}_{step}" for step in range(T) for channel in "xy"]
    for rows, name in ((TRAIN, "train"), (TEST, "test")):
        table = pd.DataFrame(np.stack([rows, -rows], axis=2).reshape(len(rows), -1), columns=names)
        table.insert(0, "id", [f"{name}{row}" for row in range(len(rows))])
        if name == "train":
            table["target"] = labels
        table.to_csv(folder / f"{name}.csv", index=False)
    return folder / "train.csv", folder / "test.csv"


def test_channels_in_the_columns_of_a_wide_file_are_inferred_and_read(tmp_path):
    files = channels(tmp_path, names_of(LABELS, "text"))
    console = Console(file=io.StringIO())
    write_competition(tmp_path, *files, None, Wanted(), console, is_forced=False)
    layout = load_competition(str(tmp_path)).file.data
    assert layout.channels == ("acc_x_{step}", "acc_y_{step}")
    found = load_data(DataConfig(competition=str(tmp_path)))
    for rows, wanted in zip(found, (TRAIN, TEST), strict=True):
        assert np.array_equal(rows.signals, np.stack([wanted, -wanted], axis=1).astype(np.float32))


def lists(folder, labels):
    train, test = (
        pd.DataFrame({"rec": range(len(rows)), "wave": [",".join(map(str, row)) for row in rows]})
        for rows in (TRAIN, TEST)
    )
    train.assign(target=labels).rename(columns={"rec": "id"}).to_csv(
        folder / "train.csv", index=False
    )
    test.rename(columns={"rec": "id"}).to_csv(folder / "test.csv", index=False)
    return folder / "train.csv", folder / "test.csv"


def long(folder, labels):
    def table(rows):
        cells = [(row, step, rows[row, step]) for row in range(len(rows)) for step in range(T)]
        return pd.DataFrame(cells, columns=["id", "step", "value"])

    table(TRAIN).assign(target=np.repeat(labels, T)).to_csv(folder / "train.csv", index=False)
    table(TEST).to_csv(folder / "test.csv", index=False)
    return folder / "train.csv", folder / "test.csv"


def plain(folder, labels, *, suffix):
    separator = "\t" if ".tsv" in suffix else ","
    rows = [[str(value) for value in row] for row in TRAIN.tolist()]
    labelled = [
        [label, *row] if separator == "\t" else [*row, label]
        for row, label in zip(rows, labels, strict=True)
    ]
    tests = [[str(value) for value in row] for row in TEST.tolist()]
    for name, table in (("train", labelled), ("test", tests)):
        text = "\n".join(separator.join(row) for row in table) + "\n"
        path = folder / f"{name}{suffix}"
        if suffix.endswith(".gz"):
            path.write_bytes(gzip.compress(text.encode()))
        elif suffix.endswith(".zip"):
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(f"{name}.csv", text)
        else:
            path.write_text(text)
    return folder / f"train{suffix}", folder / f"test{suffix}"


def ts(folder, labels):
    head = "@problemName x\n@timeStamps false\n@classLabel true {}\n@data\n"
    lines = [",".join(map(str, row)) for row in TRAIN.tolist()]
    text = [f"{line}:{label}" for line, label in zip(lines, labels, strict=True)]
    (folder / "train.ts").write_text(head.format(" ".join(sorted({*labels}))) + "\n".join(text))
    tests = [",".join(map(str, row)) for row in TEST.tolist()]
    (folder / "test.ts").write_text("@classLabel false\n@data\n" + "\n".join(tests))
    return folder / "train.ts", folder / "test.ts"


def zipped(write):
    """Return a writer of the same files, each in a .zip."""

    def write_zipped(folder, labels):
        paths = write(folder, labels)
        for path in paths:
            with zipfile.ZipFile(f"{path}.zip", "w") as archive:
                archive.write(path, path.name)
        return tuple(path.with_name(f"{path.name}.zip") for path in paths)

    return write_zipped


ts_zip, long_zip = zipped(ts), zipped(long)


def npz(folder, labels):
    np.savez(folder / "train.npz", X=TRAIN, y=np.array(labels))
    np.savez(folder / "test.npz", X=TEST)
    return folder / "train.npz", folder / "test.npz"


def npy(folder, labels):
    np.save(folder / "X_train.npy", TRAIN[:, None])
    np.save(folder / "y_train.npy", np.array(labels))
    np.save(folder / "X_test.npy", TEST[:, None])
    return folder / "X_train.npy", folder / "X_test.npy"


FORMS = {
    "wide with text labels": (wide, "text", {}),
    "wide with labels from 1": (wide, "from 1", {}),
    "wide with a gap in the labels": (wide, "gap", {}),
    "wide with signs as labels": (wide, "signs", {}),
    "wide with an Id": (wide, "text", {"id_name": "Id"}),
    "wide without an id": (wide, "from 1", {"id_name": ""}),
    "wide in gzip": (wide, "text", {"suffix": ".csv.gz"}),
    "wide in zip": (wide, "text", {"suffix": ".csv.zip"}),
    "wide in parquet": (wide, "text", {"suffix": ".parquet"}),
    "lists in cells": (lists, "text", {}),
    "long": (long, "text", {}),
    "headerless with the label last": (plain, "floats", {"suffix": ".csv"}),
    "headerless in zip": (plain, "from 1", {"suffix": ".csv.zip"}),
    "UCR's .tsv": (plain, "from 1", {"suffix": ".tsv"}),
    ".ts": (ts, "text", {}),
    ".ts in zip": (ts_zip, "text", {}),
    "long in zip": (long_zip, "text", {}),
    ".npz": (npz, "text", {}),
    "a pair of .npy": (npy, "gap", {}),
}


def competition_of(folder, form, **options):
    write, kind, details = FORMS[form]
    labels = names_of(LABELS, kind)
    train, test = write(folder, labels, **details)
    write_competition(
        folder, train, test, None, Wanted(), Console(file=io.StringIO()), is_forced=False
    )
    return DataConfig(competition=str(folder), **options), labels


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_inferred_read_and_answered(tmp_path, form):
    config, labels = competition_of(tmp_path, form)
    train, test = load_data(config)
    assert train.flat == pytest.approx(TRAIN.astype(np.float32))
    assert test.flat == pytest.approx(TEST.astype(np.float32))
    named = [train.classes[label] for label in train.labels]
    assert named == [label.removesuffix(".0") for label in labels]
    answers = np.eye(3)[np.arange(M) % 3]
    path = tmp_path / "s.csv"
    path.write_bytes(submission_bytes(test.ids, answers, form_of(config, train.classes)))
    lines = path.read_text().splitlines()
    assert lines[1].split(",")[1] == train.classes[0]
    again = check_submission(path, test.ids, form_of(config, train.classes))
    assert np.array_equal(again.answers, answers)


def test_an_id_column_keeps_its_capitals_in_the_submission(tmp_path):
    config, _ = competition_of(tmp_path, "wide with an Id")
    train, test = load_data(config)
    header = submission_bytes(test.ids, np.eye(3)[[0] * M], form_of(config, train.classes))
    assert header.splitlines()[0] == b"Id,target"
    assert train.ids[0] == "a0"


def test_the_labels_of_all_forms_are_those_of_the_test_rows_never_read(tmp_path):
    config, _ = competition_of(tmp_path, "wide with text labels")
    assert load_data(config)[1].labels is None


def test_files_may_be_named_on_the_command_line_instead(tmp_path):
    config, _ = competition_of(tmp_path, ".npz")
    np.savez(tmp_path / "other.npz", X=TEST[:2])
    _, test = load_data(config.model_copy(update={"test": tmp_path / "other.npz"}))
    assert test.n_rows == 2


def test_a_competition_without_a_labelled_file_asks_for_it(tmp_path):
    (tmp_path / "competition.toml").write_text("title = 'x'")
    with pytest.raises(InputError, match=r"no labelled file; name it in competition\.toml or with"):
        load_data(DataConfig(competition=str(tmp_path)))


GROUPS = [f"g{row // 3}" for row in range(N)]


def grouped(folder, layout):
    """Write training rows with a group in this layout, and return the rows as they are read."""
    labels = names_of(LABELS, "text")
    if layout == "array":
        np.savez(folder / "train.npz", X=TRAIN, y=np.array(labels), who=np.array(GROUPS))
    else:
        write = {"list": lists, "wide": wide, "long": long}[layout]
        path, _ = write(folder, labels)
        repeats = T if layout == "long" else 1
        pd.read_csv(path).assign(who=np.repeat(GROUPS, repeats)).to_csv(path, index=False)
    path = next(folder.glob("train.*"))
    write_competition(
        folder,
        *(path, None, None),
        Wanted(group="who", label=None if layout == "array" else "target"),
        Console(file=io.StringIO()),
        is_forced=False,
    )
    return load_data(DataConfig(competition=str(folder)))[0]


@pytest.mark.parametrize("layout", ["list", "wide", "long", "array"])
def test_whole_groups_are_held_out_in_every_layout(tmp_path, layout):
    train = grouped(tmp_path, layout)
    assert train.groups.tolist() == GROUPS
    folds = make_folds(FoldsConfig(n_folds=2), train, 0)
    assert len({*zip(GROUPS, folds.fold_of_row.tolist(), strict=True)}) == len({*GROUPS})


@pytest.mark.parametrize(("form", "layout"), [("UCR's .tsv", "plain"), (".ts", "ts")])
def test_a_layout_without_a_place_for_groups_says_what_has_one(tmp_path, form, layout):
    write, kind, details = FORMS[form]
    train, test = write(tmp_path, names_of(LABELS, kind), **details)
    wanted, console = Wanted(group="who"), Console(file=io.StringIO())
    with pytest.raises(InputError, match=f"the layout {layout} has no place for a group; a CSV"):
        write_competition(tmp_path, train, test, None, wanted, console, is_forced=False)


def test_a_ucr_test_file_may_have_labels_which_are_not_read(tmp_path):
    train, test = plain(tmp_path, names_of(LABELS, "from 1"), suffix=".tsv")
    test.write_text("\n".join(f"2\t{line}" for line in test.read_text().splitlines()))
    console = Console(file=io.StringIO())
    write_competition(tmp_path, train, test, None, Wanted(), console, is_forced=False)
    rows = load_data(DataConfig(competition=str(tmp_path)))[1]
    assert rows.labels is None
    assert rows.flat == pytest.approx(TEST.astype(np.float32))


def test_an_array_without_the_named_groups_is_refused(tmp_path):
    np.savez(tmp_path / "train.npz", X=TRAIN, y=LABELS)
    with pytest.raises(InputError, match="there is no array 'who' of groups"):
        read_arrays(tmp_path / "train.npz", group="who")


def test_a_numbered_id_in_train_and_test_is_no_warning(tmp_path):
    config, _ = competition_of(tmp_path, "UCR's .tsv")
    assert not find_duplicates(*load_data(config)).warnings()


# --- unequal lengths and missing values, from the file to the data set ---------------------------

CELLS = st.one_of(st.floats(-9, 9, width=32), st.just(np.nan))


@st.composite
def uneven_rows(draw):
    """Return rows of two channels, of unequal lengths and with gaps, none without any value."""
    rows = []
    for _ in range(draw(st.integers(2, 5))):
        n_steps = draw(st.integers(1, 5))
        row = np.array(draw(st.lists(CELLS, min_size=2 * n_steps, max_size=2 * n_steps)))
        rows.append(row.reshape(2, n_steps))
    return rows


def filled(channel, missing):
    """Return a channel by a loop, as `data.missing` says."""
    if missing == "mask":
        return list(channel)
    held = next((value for value in channel if not np.isnan(value)), 0.0)
    found = []
    for value in channel:
        held = held if np.isnan(value) else value
        found.append(held if missing == "hold" else 0.0 if np.isnan(value) else value)
    return found


def uneven_long(path, rows, labels):
    cells = [
        (f"r{number}", step, *row[:, step], label)
        for number, (row, label) in enumerate(zip(rows, labels, strict=True))
        for step in range(row.shape[1])
    ]
    columns = ["id", "t", "x", "y", "what"]
    pd.DataFrame(cells, columns=columns).sample(frac=1, random_state=0).to_csv(path, index=False)
    order = [f"r{number}" for number in range(len(rows))]
    return {"id": "id", "order": "t", "channels": ["x", "y"], "label": "what"}, order


def uneven_ts(path, rows, labels):
    lines = [
        ":".join([*(",".join("?" if x != x else repr(float(x)) for x in c) for c in row), label])
        for row, label in zip(rows, labels, strict=True)
    ]
    path.write_text("\n".join(["@classLabel true a b", "@data", *lines]))
    return {}, [str(number) for number in range(len(rows))]


@pytest.mark.parametrize(("layout", "write"), [("long", uneven_long), ("ts", uneven_ts)])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=uneven_rows(),
    pad=st.sampled_from(["end", "start"]),
    missing=st.sampled_from(["zero", "hold", "mask"]),
)
def test_unequal_rows_with_gaps_are_read_as_a_loop_pads_and_fills_them(
    tmp_path, layout, write, rows, pad, missing
):
    labels = ["ab"[number % 2] for number in range(len(rows))]
    data, ids = write(tmp_path / "train", rows, labels)
    data |= {"train": "train", "layout": layout, "pad": pad, "missing": missing}
    (tmp_path / "competition.toml").write_text(tomli_w.dumps({"title": "x", "data": data}))
    train, _ = load_data(DataConfig(competition=str(tmp_path)))
    longest = max(row.shape[1] for row in rows)
    place = {row_id: number for number, row_id in enumerate(train.ids.tolist())}
    assert {*place} == {*ids}
    for row_id, row, label in zip(ids, rows, labels, strict=True):
        padding = [np.nan] * (longest - row.shape[1])
        wanted = [
            padding + filled(channel, missing)
            if pad == "start"
            else filled(channel, missing) + padding
            for channel in row
        ]
        assert np.array_equal(train.signals[place[row_id]], wanted, equal_nan=True)
        assert train.classes[train.labels[place[row_id]]] == label
