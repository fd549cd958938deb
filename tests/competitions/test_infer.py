"""Files as competitions and archives have them, and the competition.toml that they become."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from hbcomp.competitions.competition import CompetitionFile, load_competition
from hbcomp.competitions.infer import Wanted, infer
from hbcomp.competitions.write import write_competition
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError

LABELS = ["walk", "run", "walk", "sit", "run", "sit"]


def signals(n=6, c=1, t=5):
    return np.round(np.random.default_rng(0).normal(size=(n, c, t)), 3)


def write_list(tmp_path, labels=LABELS):
    lists = [",".join(map(str, row[0])) for row in signals()]
    table = pd.DataFrame({"Id": range(6), "series": lists})
    table.to_csv(tmp_path / "test.csv", index=False)
    table.assign(activity=labels).to_csv(tmp_path / "train.csv", index=False)


def write_wide(tmp_path, labels=LABELS):
    table = pd.DataFrame(signals()[:, 0], columns=[f"t{step}" for step in range(5)])
    table.insert(0, "id", range(6))
    table["age"] = 30
    table.to_csv(tmp_path / "test.csv", index=False)
    table.assign(activity=labels).to_csv(tmp_path / "train.csv", index=False)


def write_long(tmp_path, labels=LABELS):
    values = signals(c=2)
    table = pd.DataFrame(
        [(row, step, *values[row, :, step]) for row in range(6) for step in range(5)],
        columns=["rec", "step", "x", "y"],
    ).rename(columns={"rec": "id"})
    table.to_csv(tmp_path / "test.csv", index=False)
    table.assign(activity=np.repeat(labels, 5)).to_csv(tmp_path / "train.csv", index=False)


def infer_of(tmp_path, sample=None, metric=None, kind=None):
    path = tmp_path / "sample.csv"
    if sample is not None:
        path.write_text(sample)
    found = infer(
        tmp_path / "train.csv",
        tmp_path / "test.csv",
        path if sample is not None else None,
        Wanted(metric=metric, kind=kind),
    )
    tables = {"data": found.data, "metric": found.metric, "submission": found.submission}
    validate(CompetitionFile, {"title": "x", **tables}, "")  # what is written can be read
    return found


def test_lists_in_cells_are_signals_and_what_test_lacks_is_the_label(tmp_path):
    write_list(tmp_path)
    found = infer_of(tmp_path, "Id,activity\n0,walk\n1,run\n")
    assert found.data == {
        "label": "activity",
        "id": "Id",
        "layout": "list",
        "signal": "series",
        "classes": ["run", "sit", "walk"],
    }
    assert found.metric["name"] == "accuracy"
    assert found.submission["kind"] == "label"


def test_a_numbered_series_is_the_signal_and_other_numbers_are_named(tmp_path):
    write_wide(tmp_path)
    found = infer_of(tmp_path)
    assert found.data["layout"] == "wide"
    assert found.data["ignore"] == ["age"]
    assert found.data["id"] == "id"


def test_an_id_that_repeats_makes_a_long_table(tmp_path):
    write_long(tmp_path)
    found = infer_of(tmp_path, "id,run,sit,walk\n0,.3,.3,.4\n")
    assert found.data["layout"] == "long"
    assert (found.data["order"], found.data["channels"]) == ("step", ["x", "y"])
    assert found.submission["kind"] == "probabilities"
    assert found.metric["name"] == "log-loss"


def test_one_number_for_two_classes_is_a_probability(tmp_path):
    write_wide(tmp_path, ["0", "1"] * 3)
    found = infer_of(tmp_path, "id,activity\n0,0.5\n")
    assert found.submission["kind"] == "probability"
    assert found.metric == {"name": "roc-auc", "positive": "1"}


def test_one_number_for_three_classes_is_a_question(tmp_path):
    write_wide(tmp_path)
    with pytest.raises(InputError, match="say what it is with --kind"):
        infer_of(tmp_path, "id,activity\n0,0.5\n")


def test_what_the_user_says_is_taken(tmp_path):
    write_wide(tmp_path)
    found = infer_of(tmp_path, metric="macro-f1", kind="label")
    assert found.metric["name"] == "macro-f1"
    assert "metric.name = 'macro-f1': as you said" in found.reasons


@pytest.mark.parametrize(("name", "label"), [("a.tsv", "first"), ("ecg.csv", "last")])
def test_without_a_header_the_label_is_first_in_tsv_and_last_in_csv(tmp_path, name, label):
    separator = "\t" if name.endswith("tsv") else ","
    rows = [[*map(str, row[0])] for row in signals()]
    rows = [
        [str(k % 2), *row] if label == "first" else [*row, str(k % 2)] for k, row in enumerate(rows)
    ]
    (tmp_path / name).write_text("\n".join(separator.join(row) for row in rows) + "\n")
    found = infer(tmp_path / name, None, None, Wanted())
    assert (found.data["layout"], found.data["label"]) == ("plain", label)
    assert found.data["classes"] == ["0", "1"]


def test_arrays_find_their_labels_beside_them(tmp_path):
    np.save(tmp_path / "X_train.npy", signals(c=3))
    np.save(tmp_path / "y_train.npy", np.array([5, 7, 5, 7, 5, 7]))
    found = infer(tmp_path / "X_train.npy", None, None, Wanted())
    assert found.data["layout"] == "array"
    assert found.data["classes"] == ["5", "7"]
    assert found.data["train_labels"].endswith("y_train.npy")
    (tmp_path / "y_train.npy").unlink()
    with pytest.raises(InputError, match=r"they must lie in y_train\.npy"):
        infer(tmp_path / "X_train.npy", None, None, Wanted())


def test_a_ts_file_of_unequal_lengths_is_padded(tmp_path):
    (tmp_path / "a.ts").write_text("@classLabel true a b\n@data\n1,2:3,4:a\n1:2:b\n")
    found = infer(tmp_path / "a.ts", None, None, Wanted())
    assert (found.data["layout"], found.data["pad"]) == ("ts", "end")


def test_a_label_that_cannot_be_told_is_asked_for(tmp_path):
    write_wide(tmp_path)
    table = pd.read_csv(tmp_path / "train.csv").assign(second=1)
    table.to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(InputError, match=r"which column is the label\? train has activity, second"):
        infer_of(tmp_path)


def test_every_key_has_a_reason(tmp_path):
    write_long(tmp_path)
    found = infer_of(tmp_path)
    n_keys = len(found.data) + len(found.metric) + len(found.submission)
    assert len(found.reasons) == n_keys


def test_a_long_table_of_unequal_lengths_is_padded(tmp_path):
    write_long(tmp_path)
    table = pd.read_csv(tmp_path / "train.csv").iloc[:-1]
    table.to_csv(tmp_path / "train.csv", index=False)
    assert infer_of(tmp_path).data["pad"] == "end"


def test_init_writes_relative_paths_and_replaces_nothing(tmp_path):
    write_list(tmp_path)
    folder = tmp_path / "mine"
    folder.mkdir()
    console = Console(file=io.StringIO())
    files = (
        tmp_path / "train.csv",
        tmp_path / "test.csv",
        None,
        Wanted(metric="macro-f1", kind="label"),
    )
    write_competition(folder, *files, console, is_forced=False)
    found = load_competition(str(folder))
    assert found.path(found.file.data.train).resolve() == (tmp_path / "train.csv").resolve()
    assert found.metric_spec(found.file.data.classes).config.name == "macro-f1"
    with pytest.raises(InputError, match="exists; --force replaces it"):
        write_competition(folder, *files, console, is_forced=False)


def test_the_heartbeat_files_under_other_names_keep_metric_and_submission(tmp_path):
    lists = [",".join(map(str, row[0])) for row in signals()]
    table = pd.DataFrame({"beat": [f"b{row}" for row in range(6)], "ecg": lists})
    table.to_csv(tmp_path / "test.csv", index=False)
    table.assign(kind=[0, 1, 2, 3, 0, 1]).to_csv(tmp_path / "train.csv", index=False)
    found = infer(tmp_path / "train.csv", tmp_path / "test.csv", None, Wanted(like="heartbeat"))
    assert (found.data["id"], found.data["signal"], found.data["label"]) == ("beat", "ecg", "kind")
    heartbeat = load_competition().file
    assert found.metric == heartbeat.metric.model_dump(exclude_unset=True)
    assert found.submission["columns"] == heartbeat.submission.columns
    with pytest.raises(InputError, match="--like names metric and submission"):
        infer(tmp_path / "train.csv", None, None, Wanted(like="heartbeat", metric="accuracy"))


def test_an_id_of_another_name_is_the_column_whose_values_the_sample_has(tmp_path):
    write_long(tmp_path)
    for name in ("train", "test"):
        table = pd.read_csv(tmp_path / f"{name}.csv").rename(columns={"id": "recording"})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    rows = "".join(f"{row},walk\n" for row in range(6))
    found = infer_of(tmp_path, f"Recording Number,activity\n{rows}")
    assert found.data["id"] == "recording"


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("id,p_run,p_sit,p_swim\n0,1,0,0\n", "p_run, p_sit, p_swim, must be the classes run, sit"),
        ("id\n0\n", "needs an id column and one of answers"),
    ],
)
def test_a_sample_that_does_not_fit_the_classes_leaves_no_file(tmp_path, sample, message):
    write_wide(tmp_path)
    (tmp_path / "sample.csv").write_text(sample)
    files = [tmp_path / f"{name}.csv" for name in ("train", "test", "sample")]
    with pytest.raises(InputError, match=message):
        write_competition(tmp_path, *files, Wanted(), Console(file=io.StringIO()), is_forced=False)
    assert not (tmp_path / "competition.toml").exists()


def test_a_letter_within_the_name_of_a_column_is_no_class(tmp_path):
    write_wide(tmp_path, ["a", "b"] * 3)
    assert infer_of(tmp_path, "id,target\n0,0.5\n").metric["positive"] == "b"


def test_the_column_of_a_probability_names_its_class(tmp_path):
    write_wide(tmp_path, ["fall", "walk"] * 3)
    found = infer_of(tmp_path, "id,P(fall)\n0,0.5\n")
    assert found.metric == {"name": "roc-auc", "positive": "fall"}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted(label="activty"), "no column 'activty', did you mean activity"),
        (Wanted(group="subject"), "no column 'subject'"),
    ],
)
def test_a_column_that_is_not_there_is_named(tmp_path, wanted, message):
    write_wide(tmp_path)
    with pytest.raises(InputError, match=message):
        infer(tmp_path / "train.csv", None, None, wanted)


@pytest.mark.parametrize("form", ["list", "wide", "array"])
@pytest.mark.parametrize(("n_padded", "is_said"), [(0, False), (3, True)])
def test_rows_that_end_in_zeros_are_said_to_be_padded(tmp_path, form, n_padded, is_said):
    rows = signals(t=8)[:, 0]
    rows[:n_padded, 5:] = 0
    if form == "array":
        np.savez(tmp_path / "train.npz", X=rows, y=LABELS)
        found = infer(tmp_path / "train.npz", None, None, Wanted())
    else:
        columns = {f"t{step}": rows[:, step] for step in range(8)}
        lists = {"wave": [",".join(map(str, row)) for row in rows]}
        table = pd.DataFrame({"id": range(6), **(lists if form == "list" else columns)})
        table.assign(label=LABELS).to_csv(tmp_path / "train.csv", index=False)
        found = infer(tmp_path / "train.csv", None, None, Wanted())
    assert found.data.get("padding_value") == (0.0 if is_said else None)
    said = [reason for reason in found.reasons if "end in 3 zeros or more" in reason]
    assert len(said) == is_said


def test_a_sample_whose_cells_are_neither_classes_nor_numbers_is_a_question(tmp_path):
    (tmp_path / "train.csv").write_text("id,t0,t1,kind\na,1,2,run\nb,3,4,walk\n")
    (tmp_path / "test.csv").write_text("id,t0,t1\nc,1,2\n")
    (tmp_path / "sample.csv").write_text("id,kind\nc,runn\n")
    files = [tmp_path / f"{name}.csv" for name in ("train", "test", "sample")]
    with pytest.raises(InputError, match=r"kind holds neither classes of train \(run, walk\) nor"):
        infer(*files, Wanted())
