import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hbcomp.experiment import folder, manifest, stored_folds
from hbcomp.experiment.folder import RunFolder, locked
from hbcomp.experiment.predictions import FoldResult
from hbcomp.experiment.resume import RunRecord, check_resumable, write_run
from hbcomp.system.errors import InputError

IDENTITY = {"train.lr": 0.1, "net.widths": [4, 8], "test data": "none"}


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "a-run")


def store_fold(run, seed=0, fold=0, test_probs=True):
    generator = np.random.default_rng(fold)
    result = FoldResult(
        seed=seed,
        fold=fold,
        valid_idx=np.arange(3),
        valid_probs=generator.random((3, 2)).astype(np.float32),
        test_probs=generator.random((4, 2)).astype(np.float32) if test_probs else None,
    )
    history = [("epoch", "loss", "score"), (1, 0.5, None), (2, 0.25, 100.0)]
    stored_folds.save_fold(run, "identity", result, nn.Linear(2, 2), history)
    return result


@pytest.mark.parametrize("test_probs", [True, False])
def test_a_fold_survives_the_disk(run, test_probs):
    result = store_fold(run, test_probs=test_probs)
    again = stored_folds.load_fold(run, "identity", 0, 0)
    for name, value in vars(result).items():
        assert np.array_equal(value, getattr(again, name)), name
    assert stored_folds.load_history(run, 0, 0)["loss"].tolist() == [0.5, 0.25]
    assert run.is_done(0, 0)
    assert not run.is_done(0, 1)


def test_weights_survive_the_disk_and_a_net_of_another_shape_is_refused(run):
    store_fold(run)
    net = stored_folds.load_weights(run, 0, 0, nn.Linear(2, 2))
    assert set(net.state_dict()) == {"weight", "bias"}
    for wrong in (nn.Linear(2, 3), nn.Linear(2, 2, bias=False), nn.Sequential(nn.Linear(2, 2))):
        with pytest.raises(InputError, match="not the weights of this run's net"):
            stored_folds.load_weights(run, 0, 0, wrong)


@pytest.mark.parametrize("moment", ["np.savez", "save", "sync"])
def test_a_fold_that_fails_while_being_written_is_not_there(run, monkeypatch, moment):
    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"hbcomp.experiment.stored_folds.{moment}", fail)
    with pytest.raises(OSError, match="No space left"):
        store_fold(run)
    assert not run.is_done(0, 0)
    assert list(run.folds_folder.iterdir()) == []


def begin(run, identity, *, force=False):
    record = RunRecord(identity=identity, hbcomp="0")
    check_resumable(run, record, force=force)
    write_run(run, record)


@pytest.mark.parametrize(
    ("described", "told"),
    [
        (
            {"train data": "half.csv with 12 rows", "folds of seed 0": "5 folds"},
            "train data was train.csv with 24 rows, now half.csv with 12 rows",
        ),
        (
            {"train data": "train.csv with 24 rows", "folds of seed 0": "5 folds"},
            "train data has other content than before (train.csv with 24 rows)",
        ),
    ],
)
def test_changed_data_is_told_in_words_and_not_by_its_fingerprints(run, described, told):
    prints = {**IDENTITY, "train data": "aa", "folds of seed 0": "bb"}
    words = {"train data": "train.csv with 24 rows", "folds of seed 0": "5 folds"}
    write_run(run, RunRecord(identity=prints, described=words))
    changed = {**prints, "train data": "cc", "folds of seed 0": "dd"}
    with pytest.raises(InputError) as error:
        check_resumable(run, RunRecord(identity=changed, described=described), force=False)
    assert f"0 finished folds of something else: {told}; --name NEW" in str(error.value)
    fewer = {**described, "folds of seed 0": "3 folds"}
    other = RunRecord(identity={**prints, "folds of seed 0": "dd"}, described=fewer)
    with pytest.raises(InputError, match="else: folds of seed 0 was 5 folds, now 3 folds; --name"):
        check_resumable(run, other, force=False)


def test_what_a_killed_process_left_is_swept_away(run):
    begin(run, IDENTITY)
    left = run.folds_folder / ".x.partial"
    left.mkdir(parents=True)
    (left / "result.npz").write_bytes(b"half")
    with locked(run):
        pass
    assert not left.exists()
    assert run.stored_folds() == []


def test_folds_of_the_same_identity_are_kept(run):
    begin(run, IDENTITY)
    store_fold(run)
    before = run.run_file.read_text()
    begin(run, dict(IDENTITY))
    assert run.is_done(0, 0)
    assert run.run_file.read_text() == before


def test_folds_of_another_identity_are_refused_with_what_changed(run):
    begin(run, IDENTITY)
    store_fold(run)
    with pytest.raises(InputError) as error:
        begin(run, {**IDENTITY, "train.lr": 0.2, "test data": "abc"})
    assert "holds 1 finished folds of something else" in str(error.value)
    assert "test data was 'none', now 'abc'; train.lr was 0.1, now 0.2" in str(error.value)
    assert run.is_done(0, 0)


def test_a_run_may_gain_and_lose_seeds(run):
    one = {**IDENTITY, "folds of seed 0": "aa"}
    begin(run, one)
    store_fold(run)
    begin(run, {**one, "folds of seed 1": "bb"})
    begin(run, {**IDENTITY, "folds of seed 1": "bb"})
    assert run.is_done(0, 0)
    with pytest.raises(InputError, match="folds of seed 0 was 'aa', now 'cc'"):
        begin(run, {**IDENTITY, "folds of seed 0": "cc"})


def test_force_deletes_the_folds_of_another_identity(run):
    begin(run, IDENTITY)
    store_fold(run)
    changed = {**IDENTITY, "train.lr": 0.2}
    begin(run, changed, force=True)
    assert not run.is_done(0, 0)
    store_fold(run, fold=1)
    begin(run, changed)
    assert run.is_done(0, 1)


def test_a_run_is_held_by_one_process_at_a_time(run):
    with (
        folder.locked(run),
        pytest.raises(
            InputError, match=f"working on this run: .*, process {os.getpid()} on .* since"
        ),
        folder.locked(run),
    ):
        pass
    with folder.locked(run):  # released again
        pass
    assert {path.name for path in run.path.iterdir()} <= {"run.lock"}


@pytest.mark.parametrize(
    "name", ["a", "experiments", "experiments/a", "experiments/a/", "best-cpu", "x_1.2"]
)
def test_a_run_is_found_by_its_name_or_its_folder(name):
    short = name.removeprefix("experiments/").rstrip("/")
    assert folder.find_run(name).path == folder.ROOT / short


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "/etc", "", ".hidden", "a b"])
def test_a_name_cannot_leave_the_folder_of_experiments(name):
    with pytest.raises(InputError, match="an experiment's name must be letters, digits"):
        folder.find_run(name)


def test_a_torn_result_is_named_with_the_remedy(run):
    store_fold(run)
    path = run.fold_folder(0, 0) / "result.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"result\.npz: damaged: .*; delete \S+/folds/0-0, and"):
        stored_folds.load_fold(run, "identity", 0, 0)
    manifest.write_manifest(path.parent, [each.name for each in path.parent.iterdir()])
    with pytest.raises(
        InputError, match=r"result\.npz: not a fold's result: .*; delete its folder"
    ):
        stored_folds.load_fold(run, "identity", 0, 0)


def test_bits_of_channels_last_weights_survive(run):
    net = nn.Conv2d(2, 3, (1, 5)).to(memory_format=torch.channels_last)
    result = FoldResult(0, 0, np.arange(1), np.ones((1, 2), np.float32), None)
    stored_folds.save_fold(run, "identity", result, net, [["epoch"], [1]])
    again = stored_folds.load_weights(run, 0, 0, nn.Conv2d(2, 3, (1, 5)))
    assert torch.equal(again.weight, net.weight)


def test_a_fold_that_another_configuration_trained_is_refused(run):
    store_fold(run)
    with pytest.raises(InputError, match=r"result\.npz: trained with another configuration"):
        stored_folds.load_fold(run, "another", 0, 0)


def test_a_fold_that_is_already_stored_stays(run):
    first = store_fold(run)
    result = replace(first, valid_probs=first.valid_probs + 1)
    stored_folds.save_fold(run, "identity", result, nn.Linear(2, 2), [["epoch"], [1]])
    again = stored_folds.load_fold(run, "identity", 0, 0)
    assert np.array_equal(again.valid_probs, first.valid_probs)
    assert [path.name for path in run.folds_folder.iterdir()] == ["0-0"]


def test_the_identity_of_a_fold_is_that_of_its_seed():
    one = {**IDENTITY, "folds of seed 0": "aa"}
    two = {**one, "folds of seed 1": "bb"}
    first, both, changed = (
        RunRecord(identity=each) for each in (one, two, {**one, "train.lr": 0.2})
    )
    assert first.fold_identity(0) == both.fold_identity(0)
    assert both.fold_identity(0) != both.fold_identity(1)
    assert first.fold_identity(0) != changed.fold_identity(0)


def test_forced_new_folds_leave_no_report_of_the_old_ones(run):
    begin(run, IDENTITY)
    store_fold(run)
    outputs = ["report.json", "report.html", "predictions.npz", "oof.csv", "test.csv"]
    for name in outputs:
        (run.path / name).touch()
    (run.path / "config.toml").touch()
    begin(run, {**IDENTITY, "train.lr": 0.2}, force=True)
    assert {path.name for path in run.path.iterdir()} == {"config.toml", "run.toml"}


def test_what_was_said_of_discarded_outputs_goes_with_them_and_folds_stay(run):
    store_fold(run)
    for path in (run.report_file, run.mistakes_file, run.label_issues_file, run.path / "notes.txt"):
        path.write_text("of the old nets")
    run.discard_outputs()
    assert {path.name for path in run.path.iterdir()} == {"folds", "notes.txt"}
    assert run.is_done(0, 0)
