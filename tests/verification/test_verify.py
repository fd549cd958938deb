"""`hbcomp verify`: one flipped byte in any file is found, mended hashes or not."""

import json
import re
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from commands import Strike, run_hbcomp
from finished_experiments import write_files
from safetensors.numpy import load_file, save_file

from hbcomp.experiment.folder import find_run
from hbcomp.experiment.manifest import write_manifest
from hbcomp.system.errors import InputError
from hbcomp.verification.checks import verify_run

TINY = [
    *("net.widths=[4]", "net.strides=[2]", "net.hidden=8", "train.n_epochs=1"),
    *("folds.n_folds=2", "folds.seeds=[0,1]", "refit.seeds=[3]"),
    *("compute.device=cpu", "compute.n_threads=1"),
    *("data.train=train.csv", "data.test=test.csv"),
]
names = NETS, MINE, BLEND = ("nets", "mine", "blend")
UNCOVERED = {"run.lock", "run.holder", "studies.db", "space.toml"}
SEED = 20261122  # of the flips


def with_one_small_picture():
    from matplotlib.figure import Figure

    from hbcomp.blending import blend_runs, import_probs, methods
    from hbcomp.crossval import cross_validate
    from hbcomp.reporting import pages

    methods.N_TRIALS = 2
    drawn = [pages.Picture("curves", Figure(figsize=(1, 1)), "")]
    cross_validate.draw = lambda outcome, run: drawn
    for module in (import_probs, blend_runs):
        module.probs_pictures = lambda *_: []


def call(folder, *words, strike=None):
    return run_hbcomp([str(word) for word in words], folder, strike, with_one_small_picture)


def numbers_of(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a run, nets of it on everything, an imported model and the blend of both."""
    folder = tmp_path_factory.mktemp("made")
    write_files(folder)
    settings = [word for each in TINY for word in ("--set", each)]
    numbers_of(call(folder, "cv", "quickstart", *settings, "--name", NETS))
    numbers_of(call(folder, "cv", NETS, "--fold", "all"))
    place = Path("experiments") / NETS
    files = ["--oof", place / "oof.csv", "--test", place / "test.csv"]
    numbers_of(call(folder, "import-oof", MINE, "--like", NETS, *files))
    fixed = ["--method", "greedy", "--calibration", "temperature", "--rule", "argmax"]
    numbers_of(call(folder, "blend", NETS, MINE, *fixed))
    return folder


@pytest.fixture
def here(made, monkeypatch):
    """The same folder as the working directory; what a test changes there it puts back."""
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def copy(made, tmp_path, monkeypatch):
    """A copy of it to write to, as the working directory."""
    folder = shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(folder)
    return folder


@contextmanager
def kept(*paths):
    """Put the files back as they were."""
    contents = [path.read_bytes() for path in paths]
    try:
        yield
    finally:
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)


def found(name, nets=None):
    return {check.name: check for check in verify_run(find_run(name), nets)}


def failures(name, nets=None):
    return {key: each.detail for key, each in found(name, nets).items() if each.status == "FAILED"}


def files_of(name):
    place = find_run(name).path
    files = [path for path in sorted(place.rglob("*")) if path.is_file()]
    submissions = sorted(Path("submissions").glob(f"{name}*.csv"))
    return [path for path in files if path.name not in UNCOVERED] + submissions


def flip(path, rng):
    content = bytearray(path.read_bytes())
    position, bit = int(rng.integers(len(content))), int(rng.integers(8))
    content[position] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {position} of {path}"


def mend(name):
    """Make the manifests agree with the files, as one who hides a change would."""
    run = find_run(name)
    for place in run.stored_folds():
        write_manifest(
            place, [path.name for path in place.iterdir() if path.name != "manifest.json"]
        )
    run.write_manifest()


@pytest.mark.parametrize("name", names)
def test_what_nobody_touched_passes_every_check_to_the_bit(here, name):
    checks = found(name, nets=())
    assert {each.status for each in checks.values()} == {"ok"}
    assert "to the bit" in checks["scores"].detail
    if name == NETS:
        assert "0-0, folds/0-1, folds/1-0, folds/1-1, folds/3-all: " in checks["nets"].detail
        assert "to the bit" in checks["nets"].detail


@pytest.mark.parametrize("name", names)
def test_one_flipped_bit_in_any_file_is_found_and_the_file_named(here, name, is_long):
    rng, missed = np.random.default_rng(SEED), []
    files = files_of(name)
    assert {"manifest.json", "report.html", "oof.csv", "predictions.npz"} <= {
        path.name for path in files
    }
    for path in files * (20 if is_long else 1):
        with kept(path):
            where = flip(path, rng)
            if str(path) not in " ".join(failures(name).values()):
                missed.append(where)
    assert not missed


def test_files_of_every_kind_are_flipped(here):
    kinds = {path.name for name in names for path in files_of(name)}
    assert kinds >= {
        *("config.toml", "run.toml", "predictions.npz", "oof.csv", "test.csv", "report.json"),
        *("report.html", "refit.json", "recipe.json", "curves.png", "manifest.json"),
        *("result.npz", "model.safetensors", "history.csv", "nets.csv", "nets-all.csv"),
    }


def test_a_missing_file_is_named(here):
    missed = []
    for path in set(files_of(NETS)) - {find_run(NETS).manifest_file}:
        with kept(path):
            path.unlink()
            if f"{path}: missing" not in " ".join(failures(NETS).values()):
                missed.append(path)
    assert not missed


def test_a_pseudo_label_record_is_covered(copy):
    record = find_run(NETS).path / "pseudo.csv"
    record.write_text("seed,fold,id,label,prob\n")
    assert f"{record}: not in the manifest" in failures(NETS)["files"]
    mend(NETS)
    assert not failures(NETS)
    record.write_text("seed,fold,id,label,prog\n")
    assert f"{record}: damaged" in failures(NETS)["files"]


@pytest.mark.parametrize("extra", ["pictures/extra.png", "folds/0-0/extra.bin"])
def test_an_extra_file_among_the_artefacts_is_named(here, extra):
    path = find_run(NETS).path / extra
    path.touch()
    try:
        assert f"{path}: not in the manifest" in " ".join(failures(NETS).values())
    finally:
        path.unlink()


def edit_array(path, name, change):
    with np.load(path) as stored:
        arrays = dict(stored)
    change(arrays[name])
    np.savez(path, **arrays)


def lower_first(array):
    array[0, 0] = np.nextafter(array[0, 0], array.dtype.type(0))


def edit_weight(path):
    weights = load_file(path)
    name = next(key for key, value in weights.items() if value.dtype == np.float32 and value.ndim)
    weights[name] = weights[name] + np.float32(0.5)
    save_file(weights, path)


def edit_text(pattern, replacement):
    def edit(path):
        text, n = re.subn(pattern, replacement, path.read_text(), count=1)
        assert n == 1
        path.write_text(text)

    return edit


def next_digit(match):
    return match[1] + str((int(match[2]) + 1) % 9 + 1)


ONE_MORE_DIGIT = (r"(\d)\n$", r"\g<1>1\n")

HIDDEN = [
    (NETS, "predictions.npz", lambda f: edit_array(f, "oof_probs", lower_first), "predictions"),
    (NETS, "predictions.npz", lambda f: edit_array(f, "test_probs", lower_first), "predictions"),
    (
        NETS,
        "folds/0-1/result.npz",
        lambda f: edit_array(f, "valid_probs", lower_first),
        "predictions",
    ),
    (NETS, "folds/0-0/result.npz", lambda f: edit_array(f, "test_probs", lower_first), "nets"),
    (NETS, "folds/3-all/result.npz", lambda f: edit_array(f, "test_probs", lower_first), "nets"),
    (NETS, "folds/0-0/model.safetensors", edit_weight, "nets"),
    (NETS, "folds/1-1/model.safetensors", edit_weight, "nets"),
    (NETS, "folds/3-all/model.safetensors", edit_weight, "nets"),
    (
        NETS,
        "report.json",
        edit_text(r'("cross_fitted": [\d.]*?)(\d)(?=,|\s)', next_digit),
        "scores",
    ),
    (NETS, "report.json", edit_text(r'("half": [\d.]*?)(\d)(?=,|\s)', next_digit), "predictions"),
    (NETS, "report.json", edit_text(r'"name": "half"', '"name": "hal"'), "scores"),
    (NETS, "report.json", edit_text(r'"data"', '"date"'), "data"),
    (NETS, "run.toml", edit_text(r'("folds of seed 0" = ")\w', r"\1x"), "predictions"),
    (NETS, "oof.csv", edit_text(*ONE_MORE_DIGIT), "tables"),
    (NETS, "refit.json", edit_text(r'"kind": "\w+"', '"kind": "raw"'), "refit"),
    (MINE, "test.csv", edit_text(*ONE_MORE_DIGIT), "tables"),
    (MINE, "predictions.npz", lambda f: edit_array(f, "oof_probs", lower_first), "tables"),
    (BLEND, "predictions.npz", lambda f: edit_array(f, "oof_probs", lower_first), "recipe"),
    (BLEND, "predictions.npz", lambda f: edit_array(f, "test_probs", lower_first), "recipe"),
    (BLEND, "recipe.json", edit_text(r'("temperature": )', r"\g<1>1"), "recipe"),
]


@pytest.mark.parametrize(("name", "file", "change", "check"), HIDDEN)
def test_a_change_whose_hashes_were_mended_is_found_by_computing_again(
    here, name, file, change, check
):
    run = find_run(name)
    path = run.path / file
    seals = [run.manifest_file, *run.folds_folder.glob("*/manifest.json")]
    with kept(path, *seals):
        change(path)
        mend(name)
        failed = failures(name, nets=())
    assert check in failed
    assert not {"files", "fold files"} & set(failed)


def test_a_submission_that_the_ledger_does_not_know_fails(here):
    ledger = Path("submissions/ledger.csv")
    with kept(ledger):
        text = ledger.read_text()
        ledger.write_text(text.replace(text.splitlines()[1][:64], "0" * 64))
        assert "ledger.csv: no row has the sha256" in failures(NETS)["submission"]


@pytest.mark.parametrize("name", names)
def test_a_submission_is_missed_only_where_the_ledger_has_it(copy, name):
    path = Path("submissions") / f"{name}.csv"
    content = path.read_bytes()
    shutil.rmtree("submissions")
    check = found(name)["submission"]
    assert (check.status, check.detail) == ("not checked", f"{path} is not here")
    path.parent.mkdir()
    path.write_bytes(content)
    check = found(name)["submission"]
    assert (check.status, check.detail) == (
        "ok",
        f"{path} is the rule's answers; submissions/ledger.csv is not here",
    )
    path.write_bytes(content.replace(b"1", b"0"))
    assert "not the rule's answers" in failures(name)["submission"]


def test_other_beats_fail_and_absent_ones_are_not_checked(copy):
    Path("test.csv").rename("elsewhere.csv")
    checks = found(NETS)
    assert [(key, checks[key].status) for key in ("data", "nets")] == [
        ("data", "not checked"),
        ("nets", "not checked"),
    ]
    assert checks["data"].detail == "data not found: test.csv"
    write_files(copy, seed=5)
    assert "train.csv: not the train rows that" in failures(NETS)["data"]


def test_what_is_committed_is_verified_as_far_as_it_goes(copy):
    run = find_run(NETS)
    for path in (run.manifest_file, run.predictions_file, run.run_file, run.path / "oof.csv"):
        path.unlink()
    shutil.rmtree(run.folds_folder)
    status = {key: each.status for key, each in found(NETS).items()}
    assert status == {
        **dict.fromkeys(("files", "scores", "predictions", "tables", "nets"), "not checked"),
        "submission": "ok",
        "data": "not checked",
        "refit": "not checked",
    }


def test_another_machine_is_compared_within_a_stated_tolerance(copy):
    run = find_run(NETS)
    edit_text(r'"cpu": ".*?"', '"cpu": "another"')(run.report_file)
    mend(NETS)
    checks = found(NETS)
    assert {each.status for each in checks.values()} == {"ok"}
    assert "within 1e-06 (another machine)" in checks["scores"].detail
    assert "within 0.0001 (another machine)" in checks["nets"].detail
    edit_weight(run.fold_folder(0, 0) / "model.safetensors")
    mend(NETS)
    assert set(failures(NETS)) == {"nets"}


def test_cv_again_and_later_commands_leave_what_passes(copy):
    numbers_of(call(copy, "thresholds", NETS, "--trials", "2"))
    assert not failures(NETS)
    numbers_of(call(copy, "cv", NETS))
    assert not failures(NETS)
    assert found(NETS)["files"].status == "ok"


@pytest.mark.parametrize(
    "strike",
    [
        Strike("experiment.finish", "write_predictions"),
        Strike("experiment.finish", "write_submission"),
        Strike("experiment.manifest", "write_manifest"),
    ],
    ids=lambda strike: strike.function,
)
def test_a_run_that_was_killed_while_writing_is_unfinished_not_damaged(copy, strike):
    done = call(copy, "cv", NETS, "--set", "folds.seeds=[0]", strike=strike)
    assert done.returncode == -signal.SIGKILL
    if find_run(NETS).report_file.exists():
        assert not failures(NETS)
    else:
        with pytest.raises(InputError, match="has the run finished"):
            failures(NETS)


@pytest.mark.parametrize("file", ["result.npz", "history.csv", "manifest.json"])
def test_cv_refuses_a_damaged_fold_and_says_what_to_do(copy, file):
    path = find_run(NETS).fold_folder(1, 0) / file
    flip(path, np.random.default_rng(SEED))
    shutil.rmtree(find_run(NETS).fold_folder(0, 0))
    done = call(copy, "cv", NETS)
    assert not find_run(NETS).is_done(0, 0)  # refused before another fold was trained
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert str(path) in line
    assert f"delete {path.parent}, and `hbcomp cv` trains it anew" in line


def test_predict_refuses_damaged_weights(copy):
    path = find_run(NETS).fold_folder(1, 0) / "model.safetensors"
    flip(path, np.random.default_rng(SEED))
    done = call(copy, "predict", NETS)
    assert (done.returncode, f"{path}: damaged" in done.stderr) == (2, True)


def test_folds_trained_by_another_version_are_said_and_continued(copy):
    run = find_run(NETS)
    edit_text(r'torch = ".*"', 'torch = "1.0"')(run.run_file)
    shutil.rmtree(run.fold_folder(1, 1))
    done = call(copy, "cv", NETS)
    assert numbers_of(done)["n_folds_trained"] == 1
    assert re.search(r"nets began with torch 1\.0, now \S+: the bits may differ", done.stderr)


def test_the_command_counts_names_what_failed_and_exits_with_2(copy):
    counts = numbers_of(call(copy, "verify"))
    assert counts["experiments"] == sorted(names)
    assert (counts["n_failed"], counts["n_not_checked"]) == (0, 0)
    flip(find_run(MINE).path / "report.html", np.random.default_rng(SEED))
    done = call(copy, "verify", MINE)
    assert done.returncode == 2
    assert json.loads(done.stdout.splitlines()[-1])["n_failed"] == 1
    assert done.stderr.splitlines()[-1] == (
        "error: 1 of 5 checks failed: mine: files: experiments/mine/report.html: damaged: its "
        "sha256 is not the manifest's"
    )


def test_an_unknown_net_and_an_unfinished_run_are_refused(here):
    assert "there is no net 9-9, but 0-0" in failures(NETS, nets=["9-9"])["nets"]
    with pytest.raises(InputError, match=r"no report.json; has the run finished\?"):
        found("absent")
