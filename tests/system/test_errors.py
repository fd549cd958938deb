from pathlib import Path

import pytest

from hbcomp.competitions.competition import load_competition
from hbcomp.data.columns import find_columns
from hbcomp.data.reader import read_dataset
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import read_report
from hbcomp.system.errors import InputError, Problems, check_name, closest, similar_names


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("resent", ["resnet"]),
        ("RESNET", ["resnet"]),
        ("wid", ["wide"]),
        ("di", ["dilated"]),
        ("lstm", []),
        ("", []),
    ],
)
def test_the_closest_name_is_found_whatever_its_case(name: str, names: list[str]) -> None:
    assert closest(name, ["resnet", "wide", "dilated"]) == names


def test_an_unknown_name_is_refused_with_all_there_are_and_the_one_it_is_like() -> None:
    assert check_name("rule", "half", ["half", "raw"]) == "half"
    with pytest.raises(
        InputError, match=r"^rule must be one of half, raw, but got 'hlaf', did you mean half\?$"
    ):
        check_name("rule", "hlaf", ["half", "raw"])


def test_a_missing_file_or_folder_is_compared_with_those_beside_it(tmp_path: Path) -> None:
    (tmp_path / "experiments" / "resnet").mkdir(parents=True)
    (tmp_path / "train.csv").write_text("id\n")
    assert similar_names(tmp_path / "tran.csv") == ["train.csv"]
    assert similar_names(tmp_path / "experiments" / "resent") == ["resnet"]
    assert similar_names(tmp_path / "experiments" / "resnet") == []
    with pytest.raises(InputError, match=r"No such file or directory, did you mean train\.csv\?"):
        read_dataset(tmp_path / "tran.csv", load_competition().file.data, labelled=True)
    folder = tmp_path / "experiments" / "resent"
    with pytest.raises(InputError, match=r"no such file, did you mean resnet\?; has the exp"):
        read_report(folder / "report.json")
    with pytest.raises(InputError, match=r"no such file, did you mean resnet\?; has the run"):
        Predictions.load(folder / "predictions.npz")


def test_a_column_is_compared_with_those_of_the_file() -> None:
    names = ["id", "heartbeat_signals", "Label "]
    with pytest.raises(InputError, match="no column 'label', did you mean 'Label '"):
        find_columns(Path("a.csv"), names, load_competition().file.data, labelled=True)


def test_a_rule_is_said_once_with_its_values_by_how_many_rows_hold_them() -> None:
    problems = Problems()
    for row, value in enumerate("NVNNA", start=1):
        problems.add(f"row {row}", f"the label must be a number, but is {value!r}")
    problems.add("row 6", "the id is empty")
    assert problems.lines() == [
        "the label must be a number, but is 'N' in 3, 'V' in 1, 'A' in 1 rows, first in row 1",
        "row 6: the id is empty",
    ]
    assert problems.n_hidden == 0
