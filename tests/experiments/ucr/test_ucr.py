"""The table of the UCR archive: folds, rows, summary, and one small set from end to end."""

import numpy as np
import pytest
from ucr import run, table
from ucr.sets import fold_of_row, labels_of, sets_of
from ucr.table import METHODS, Row

from hbcomp.data.synthetic import make_rows


def row(data_set, accuracy, model="rocket", **other):
    values = {"log_loss": 0.5, "oof_accuracy": 0.8, "low": 0.7, "high": 0.9, "seconds": 6.0}
    return Row(data_set=data_set, accuracy=accuracy, model=model, **values | other)


def write_set(folder, name, n=30, t=16):
    for part, seed in (("TRAIN", 0), ("TEST", 1)):
        rows = make_rows(n=n, t=t, k=2, seed=seed)
        lines = [
            "\t".join([str(2 * label - 1), *map(str, signal)])
            for label, signal in zip(rows.known_labels, rows.signals[:, 0].tolist(), strict=True)
        ]
        (folder / f"{name}_{part}.tsv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("counts", [(6, 9), (1, 5, 14), (30, 2)])
def test_every_class_goes_evenly_to_the_folds(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    folds = fold_of_row(labels, 5)
    for label in range(len(counts)):
        of_class = np.bincount(folds[labels == label], minlength=5)
        assert of_class.max() - of_class.min() <= 1
    assert np.bincount(folds, minlength=5).min() > 0


def test_a_set_without_its_test_split_is_no_set(tmp_path):
    write_set(tmp_path, "Whole")
    write_set(tmp_path, "Half")
    (tmp_path / "Half_TEST.tsv").unlink()
    assert [each.name for each in sets_of(tmp_path)] == ["Whole"]


def test_rows_are_read_as_they_were_appended(tmp_path):
    path = tmp_path / "table.csv"
    rows = [row("A", 0.75), row("B", 1.0, model="blend")]
    for each in rows:
        table.append(path, [each])
    assert table.read(path) == rows


def test_wins_ties_and_losses_are_counted_on_the_same_sets():
    known = {name: dict.fromkeys(METHODS, 0.8) for name in "ABC"}
    rows = [row("A", 0.9), row("B", 0.8), row("C", 0.75), row("unknown", 1.0)]
    shown = table.against_published(rows, known)
    assert [line[-1] for line in shown.rows] == ["1 / 1 / 1"] * len(METHODS)
    assert shown.rows[0][2:5] == ["3", "0.8000", "+0.0167 ± 0.0441"]


def test_a_promise_is_kept_within_its_interval():
    shown = table.summary([row("A", 0.9), row("B", 0.95)])
    assert shown.rows[0][5] == "1 of 2"


def test_published_means_are_those_of_the_78_sets():
    known = table.published()
    assert len(known) == 78
    assert np.mean([each["HC2"] for each in known.values()]) == pytest.approx(0.8666, abs=5e-5)


def test_a_set_is_run_once_and_scored_on_its_own_labels(here):
    write_set(here, "Tiny")
    for _ in range(2):
        run.main(here, here / "out", ["Tiny"])
    rows = table.read(here / "out/table.csv")
    assert [each.model for each in rows] == ["rocket", "quant", "blend"]
    labels = labels_of(here / "Tiny_TEST.tsv")
    for each in rows:
        path = here / f"out/Tiny/submissions/{each.model}.csv"
        answers = np.loadtxt(path, delimiter=",", skiprows=1)[:, 1]
        assert each.accuracy == pytest.approx((answers == labels).mean(), abs=1e-6)
        assert 0 <= each.low <= each.high <= 1
    assert rows[2].seconds > rows[0].seconds + rows[1].seconds


def test_a_set_with_a_class_of_one_row_is_fitted_on_all_and_promises_nothing(tmp_path):
    write_set(tmp_path, "Single", n=12)
    train, test = tmp_path / "Single_TRAIN.tsv", tmp_path / "Single_TEST.tsv"
    lines = test.read_text().splitlines()
    train.write_text("".join(f"{line}\n" for line in [*lines, lines[0].replace("1", "7", 1)]))
    run.main(tmp_path, tmp_path / "out", ["Single"], settings=[*run.SETTINGS, "folds.seeds=[0]"])
    assert not table.read(tmp_path / "out/table.csv")
    for _ in range(2):
        run.main(tmp_path, tmp_path / "out", ["Single"])
    rows = table.read(tmp_path / "out/table.csv")
    assert [each.model for each in rows] == ["rocket", "quant", "blend"]
    assert rows[1].accuracy == 1  # its trees know all of these rows
    assert all(np.isnan([each.oof_accuracy, each.low, each.high]).all() for each in rows)
    assert table.summary([*rows, row("A", 0.8)]).rows[0][4:6] == ["0.8000", "1 of 1"]


def test_a_model_is_added_to_a_set_without_running_the_others_again(tmp_path, monkeypatch):
    write_set(tmp_path, "Tiny")
    scored = []
    monkeypatch.setattr(run, "_train", lambda model, *_: scored.append(model) or 2.0)
    monkeypatch.setattr(run.blend_runs, "run", lambda models, name, *_, **__: scored.append(name))
    monkeypatch.setattr(run, "row_of", lambda name, model, _, s: row(name, 0.5, model, seconds=s))
    for models in (["rocket"], ["rocket", "quant"], ["rocket", "quant"], ["rocket", "resnet"]):
        run.main(tmp_path, tmp_path / "out", ["Tiny"], models)
    assert scored == ["rocket", "quant", "blend", "resnet", "blend-rocket-resnet"]
    rows = table.read(tmp_path / "out/table.csv")
    assert [each.model for each in rows] == scored
    assert rows[-1].seconds == pytest.approx(4.0, abs=0.5)
