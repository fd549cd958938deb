"""Folds of one run, trained by several processes."""

import shutil

import pytest
from finished_experiments import write_files, write_into
from hypothesis import given
from hypothesis import strategies as st

from hbcomp.crossval import cross_validate, parts
from hbcomp.crossval.parts import chosen_folds
from hbcomp.experiment.folder import find_run, locked, locked_folds
from hbcomp.experiment.setup import prepare
from hbcomp.system.errors import InputError
from hbcomp.system.stopwatch import Stopwatch

CONFIG = """
[folds]
n_folds = 3
seeds = [0, 1]
[net]
name = "linear"
[train]
n_epochs = 2
batch_size = 8
lr = 0.02
[compute]
device = "cpu"
n_threads = 1
"""
KEYS = [(seed, fold) for seed in (0, 1) for fold in range(3)]


@pytest.fixture
def folder(here):
    """A folder with files and an experiment of two seeds and three folds."""
    write_files(here)
    write_into(here, "mine", "config.toml", CONFIG)
    return here


def request(name=None):
    return prepare("mine", ["data.train=train.csv", "data.test=test.csv"], name)


def train_part(only=None, part=None, name=None):
    return parts.run(request(name), Stopwatch(), only=only, part=part, n_jobs=1)


def assemble(name=None):
    return cross_validate.run(request(name), Stopwatch(), n_jobs=1, force=False, has_profile=False)


@given(n_keys=st.integers(1, 40), n_parts=st.integers(1, 50))
def test_the_parts_are_all_folds_once_and_of_nearly_equal_size(n_keys, n_parts):
    keys = [(0, fold) for fold in range(n_keys)]
    found = [chosen_folds(None, f"{part}/{n_parts}", keys) for part in range(1, n_parts + 1)]
    assert sorted(key for part in found for key in part) == keys
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_folds_are_named_by_seed_and_fold():
    assert chosen_folds("1-2, 0-0", None, KEYS) == [(0, 0), (1, 2)]


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", ""])
def test_a_part_that_there_is_not_is_refused(part):
    with pytest.raises(InputError, match=r"--part must be like 2/5, from 1/5 to 5/5, but got "):
        chosen_folds(None, part, KEYS)


def test_all_wrong_folds_are_named_with_those_that_there_are():
    with pytest.raises(InputError, match=r"from 0-0 to 1-2, but got zero, 2-0$"):
        chosen_folds("0-0,zero,2-0", None, KEYS)


def test_a_part_assembles_nothing_and_the_run_trains_what_is_missing(folder):
    numbers = train_part(only="0-1,1-0")
    assert numbers["folds_trained"] == ["0-1", "1-0"]
    assert numbers["folds_missing"] == ["0-0", "0-2", "1-1", "1-2"]
    assert numbers["next"] == "hbcomp cv mine"
    assert not list(folder.glob("submissions/*"))
    assert not find_run("mine").predictions_file.exists()
    assert assemble()["n_folds_trained"] == 4


def test_parts_in_folders_of_their_own_give_the_bytes_of_one_process_when_copied_together(folder):
    assemble("whole")
    for number in (1, 2):
        train_part(part=f"{number}/2", name=f"part{number}")
    for path in find_run("part2").folds_folder.glob("[!.]*"):
        shutil.copytree(path, find_run("part1").folds_folder / path.name)
    assert assemble("part1")["n_folds_trained"] == 0
    written = [(folder / f"submissions/{name}.csv").read_bytes() for name in ("whole", "part1")]
    assert written[0] == written[1]
    stored = [find_run(name).predictions_file.read_bytes() for name in ("whole", "part1")]
    assert stored[0] == stored[1]


def test_a_fold_that_another_process_trains_is_left_to_it(folder, capsys):
    run = find_run("mine")
    with locked_folds(run, [(0, 0), (1, 1)]) as held:
        assert held == [(0, 0), (1, 1)]
        half_written = run.folds_folder / ".half.partial"
        half_written.mkdir()
        numbers = train_part(part="1/2")  # 0-0, 0-2, 1-1
        assert numbers["folds_trained"] == ["0-2"]
        assert half_written.exists()
    assert "left to the processes that train them: 0-0, 1-1" in capsys.readouterr().err
    assert train_part(part="1/2")["folds_trained"] == ["0-0", "1-1"]
    assert not half_written.exists()


def test_a_run_of_which_others_train_folds_is_not_assembled_and_they_are_named(folder):
    with (
        locked_folds(find_run("mine"), [(0, 2)]),
        pytest.raises(InputError, match=r"folds are being trained: 0-2: .*process \d+ on"),
    ):
        assemble()
    assert assemble()["n_folds_trained"] == 6


def test_a_part_waits_for_the_run_and_says_for_whom(folder, capsys, monkeypatch):
    monkeypatch.setattr(parts, "SECONDS_TO_BEGIN", 0.01)
    with (
        locked(find_run("mine")),
        pytest.raises(InputError, match="another process is working on this run"),
    ):
        train_part(part="1/2")
    assert "mine: waiting: " in capsys.readouterr().err


def test_folds_of_another_configuration_are_refused_by_a_part(folder):
    train_part(only="0-0")
    text = CONFIG.replace("n_epochs = 2", "n_epochs = 3")
    (folder / "experiments/mine/config.toml").write_text(text)
    with pytest.raises(InputError, match=r"holds 1 finished folds of something else: .*n_epochs"):
        train_part(only="0-1")
