"""The command `eda`: its numbers equal loops over the file, and its page holds them."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hbcomp import eda, init
from hbcomp.analysis import describe_data
from hbcomp.analysis.describe_data import row_statistics
from hbcomp.data.dataset import Dataset
from hbcomp.data.synthetic import make_rows, write_competition_csv
from hbcomp.system import command as cli


def padded_beats(n: int = 30, seed: int = 0, first_id: int = 0) -> Dataset:
    """Return made-up rows of 8 to 16 time steps, padded with zeros to 16."""
    beats = make_rows(n=n, t=16, k=2, seed=seed)
    signals = np.maximum(beats.signals, np.float32(0.01))
    lengths = np.random.default_rng(seed).integers(8, 17, n)
    signals[:, 0][np.arange(16) >= lengths[:, None]] = 0
    return Dataset(np.arange(first_id, first_id + n).astype(str), signals, beats.labels)


@pytest.fixture
def train(tmp_path: Path) -> Path:
    path = tmp_path / "train.csv"
    write_competition_csv(path, padded_beats())
    return path


@pytest.fixture
def test_file(tmp_path: Path) -> Path:
    path = tmp_path / "test.csv"
    write_competition_csv(path, padded_beats(20, seed=1, first_id=100))
    return path


@pytest.fixture
def no_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave adversarial validation out, which takes a second and has its own tests."""
    monkeypatch.setattr(describe_data, "tell_apart", lambda train, test: None)


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["eda", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.run(eda.eda)
    return int(stopped.value.code or 0)


def test_the_last_line_is_the_numbers_and_the_page_is_where_they_say(
    train: Path,
    test_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_main(monkeypatch, train, "--test", test_file, "--out", tmp_path / "out") == 0
    numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
    page = Path(numbers["page"])
    assert page == tmp_path / "out" / "index.html"
    written = {path.name for path in page.parent.iterdir()}
    drawn = {"label-counts", "signal-lengths", "example-signals", "class-mean-spread"}
    assert written == {"index.html", *(f"{name}.png" for name in drawn)}
    html = page.read_text(encoding="utf-8")
    cannot = "A classifier cannot tell train from test rows (AUC 0."
    for shown in ("Data: train.csv", "Train against test", "0 missing values", "50.00 %", cannot):
        assert shown in html
    assert numbers["adversarial"]["low"] <= 0.5 <= numbers["adversarial"]["high"]


@pytest.mark.usefixtures("undrawn", "no_classifier")
def test_the_next_command_reads_the_same_files_and_columns(
    train: Path, test_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    files = ["--train", str(train), "--test", str(test_file)]
    line = eda.eda(train, test_file, out)["next"]
    assert line == shlex.join(["hbcomp", "cv", "resnet", *files, "--name", "NAME"])
    train.write_text(train.read_text().replace("id,", "row,", 1))
    init.init(train, like="heartbeat", folder=tmp_path)
    line = eda.eda(out=out, competition=str(tmp_path))["next"]
    of = ["--competition", str(tmp_path)]
    assert line == shlex.join(["hbcomp", "cv", "resnet", *of, "--name", "NAME"])
    assert "next" not in eda.eda(out=out)


@pytest.mark.usefixtures("undrawn", "no_classifier")
def test_numbers_equal_loops_over_the_rows(train: Path, test_file: Path, tmp_path: Path) -> None:
    numbers = eda.eda(train, test_file, tmp_path / "out")
    beats = padded_beats()
    trimmed = [np.trim_zeros(row.astype(np.float64), "b") for row in beats.flat]
    lengths = [len(row) for row in trimmed]
    of_train = numbers["train"]
    assert (of_train["n_rows"], numbers["test"]["n_rows"]) == (30, 20)
    assert (of_train["length_min"], of_train["length_max"]) == (min(lengths), max(lengths))
    assert of_train["length_median"] == np.median(lengths)
    assert of_train["padding_share"] == pytest.approx(1 - sum(lengths) / (30 * 16))
    assert (of_train["value_min"], of_train["value_max"]) == (
        float(np.float32(0.01)),
        float(beats.signals.max()),
    )
    assert numbers["missing_cells"] == 0
    for row in numbers["classes"]:
        of_class = np.flatnonzero(beats.known_labels == row["label"])
        assert (row["n_rows"], row["share"]) == (15, 0.5)
        assert row["mean_length"] == pytest.approx(np.mean([lengths[i] for i in of_class]))
        amplitude = np.mean([trimmed[i].mean() for i in of_class])
        assert row["mean_amplitude"] == pytest.approx(amplitude)


def test_statistics_leave_the_padding_out_and_allow_a_row_without_any() -> None:
    nan = np.nan
    signals = np.array([[[1, 3, nan, nan]], [[nan] * 4], [[1, nan, 3, nan]]], dtype=np.float32)
    values = row_statistics(Dataset(np.array(["a", "b", "c"]), signals))
    found = {name: array.tolist() for name, array in values.items()}
    assert found == {"length": [2, 0, 3], "mean": [2, 0, 2], "standard deviation": [1, 0, 1]}


@pytest.mark.usefixtures("undrawn", "no_classifier")
def test_the_shift_is_zero_between_equal_files_and_tells_a_shift(tmp_path: Path) -> None:
    beats = padded_beats(60)
    others = np.char.add("t", beats.ids)
    shifted = Dataset(beats.ids, np.where(beats.signals > 0, beats.signals + np.float32(1), 0))
    for name, data in {"a": beats, "b": Dataset(others, beats.signals)}.items():
        write_competition_csv(tmp_path / f"{name}.csv", data)
    same = eda.eda(tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "same")["shift"]
    assert {row["shift_in_deviations"] for row in same} == {0.0}
    renamed = Dataset(others, shifted.signals)
    write_competition_csv(tmp_path / "c.csv", renamed)
    shift = eda.eda(tmp_path / "a.csv", tmp_path / "c.csv", tmp_path / "moved")["shift"]
    by_name = {row["quantity"]: row for row in shift}
    assert by_name["length"]["shift_in_deviations"] == 0
    assert by_name["mean"]["test"] - by_name["mean"]["train"] == pytest.approx(1, abs=1e-6)
    assert by_name["mean"]["standard_errors"] > 3


@pytest.mark.usefixtures("undrawn", "no_classifier")
def test_planted_duplicates_are_counted_and_named_on_the_page(tmp_path: Path) -> None:
    beats = padded_beats()
    signals = beats.signals.copy()
    other = int(np.flatnonzero(beats.known_labels != beats.known_labels[0])[0])
    signals[other] = signals[0]
    write_competition_csv(tmp_path / "a.csv", Dataset(beats.ids, signals, beats.labels))
    write_competition_csv(tmp_path / "t.csv", Dataset(np.array(["x"]), signals[:1]))
    numbers = eda.eda(tmp_path / "a.csv", tmp_path / "t.csv", tmp_path / "out")
    found = numbers["duplicates"]
    assert (found["n_repeated"], found["n_conflicting"], found["n_in_train"]) == (1, 2, 1)
    html = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "2 training rows share a signal but not the label." in html


@pytest.mark.usefixtures("undrawn", "no_classifier")
def test_without_a_test_file_nothing_is_said_about_one(train: Path, tmp_path: Path) -> None:
    numbers = eda.eda(train, out=tmp_path / "out")
    assert numbers["test"] is None
    assert numbers["shift"] is None
    assert "Train against test" not in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn", "no_classifier")
def test_the_same_data_gives_the_same_files_from_any_folder(train: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "train.csv"
    moved.parent.mkdir()
    moved.write_bytes(train.read_bytes())
    eda.eda(train, out=tmp_path / "a")
    eda.eda(moved, out=tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.usefixtures("undrawn", "no_classifier")
def test_file_names_with_markup_are_shown_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "[red]<b>.csv"
    write_competition_csv(path, padded_beats())
    numbers = eda.eda(path, out=tmp_path / "[bold]out")
    assert "Data: [red]&lt;b&gt;.csv" in Path(numbers["page"]).read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn", "no_classifier")
def test_the_default_folder_is_named_after_the_file(
    train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert eda.eda(train)["page"] == "experiments/eda/train/index.html"
    numbers = eda.eda()
    assert numbers["page"] == "experiments/eda/bundled/index.html"
    assert numbers["test"]["n_rows"] > 0


def test_a_test_file_alone_is_refused_with_one_line(
    test_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "--test", test_file) == cli.EXIT_WRONG_INPUT
    error = capsys.readouterr().err
    assert error == "error: `test` needs `train`; leave both out for the bundled sample\n"


def test_help_waits_for_no_heavy_import() -> None:
    heavy = "{'numpy', 'matplotlib', 'torch', 'pandas', 'pydantic'}"
    code = f"import sys, hbcomp.eda; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
