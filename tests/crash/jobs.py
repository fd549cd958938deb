"""The commands that are killed and starved, on data so tiny that one takes a blink."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from finished_experiments import M, N, probs_for, write_experiment, write_files
from weather import Job, call

NET = ["net.widths=[4]", "net.strides=[2]", "net.hidden=8", "train.n_epochs=2"]
SETTINGS = [
    *NET,
    "train.batch_size=16",
    "folds.n_folds=2",
    "compute.device=cpu",
    "compute.n_threads=1",
    "data.train=train.csv",
    "data.test=test.csv",
    "refit.seeds=[0]",
]
CONFIG = "[data]\ntrain = 'train.csv'\ntest = 'test.csv'\n[folds]\nn_folds = 5\n"
SPACE = '"train.lr" = { low = 5e-3, high = 1e-1, log = true }'


def undrawn() -> None:
    """Draw one small picture where there would be five, and write nothing of matplotlib's."""
    import hbcomp.blending.methods
    from hbcomp.blending import blend_runs, import_probs
    from hbcomp.crossval import cross_validate
    from hbcomp.reporting.figures import runs as pictures
    from hbcomp.tuning import tune_experiment as workflow

    for module in (import_probs, blend_runs):
        module.probs_pictures = lambda *_: []
    cross_validate.draw = lambda outcome, run: []
    pictures.costliest_rows = lambda *_, **__: empty_figure()
    workflow.write_page = lambda summary, folder: folder / "tune.html"
    hbcomp.blending.methods.N_TRIALS = 5


def empty_figure():
    """Return the smallest figure that there is."""
    from matplotlib.figure import Figure

    return Figure(figsize=(0.1, 0.1))


def cv(*words: str, name: str = "cv") -> Job:
    """Return the job of a cross-validation."""
    return Job(name, ["cv", *words, *set_words(SETTINGS)], undrawn)


def set_words(settings: list[str]) -> list[str]:
    """Return `--set` before each setting."""
    return [word for setting in settings for word in ("--set", setting)]


TUNE_SETTINGS = [each for each in SETTINGS if not each.startswith(("data.", "refit."))]
JOBS = {
    job.name: job
    for job in (
        cv(),
        cv("--fold", "all", name="refit"),
        Job("blend", ["blend", "a", "b", "--name", "blend"], undrawn),
        Job("import", ["import-oof", "made", "--oof", "oof.csv", "--test", "probs.csv",
                       "--like", "a"], undrawn),
        Job("submit", ["submit", "submissions/mine.csv", "--test", "test.csv", "--by-hand"],
            undrawn, refusal="this content was already sent at "),
        Job("forced", ["blend", "a", "b", "--name", "blend", "--force"], undrawn),
        Job(
            "tune",
            ["tune", "--space", "space.toml", "--train", "train.csv", "--trials", "3",
             "--best", "0", "--jobs", "1", *set_words(TUNE_SETTINGS)],
            undrawn,
        ),
    )
}  # fmt: skip


def prepare(name: str, folder: Path) -> None:
    """Write what the job of that name needs."""
    write_files(folder)
    if name in ("blend", "import", "forced"):
        for run, n_wrong, start in [("a", 6, 0), ("b", 4, 10)]:
            write_experiment(folder, run, n_wrong, start)
        (folder / "experiments/a/config.toml").write_text(CONFIG)
    BEFORE.get(name, lambda folder: None)(folder)


def _finish_cv(folder: Path) -> None:
    done = call(JOBS["cv"], folder)
    assert done.returncode == 0, done.stderr


def _leave_another_blend(folder: Path) -> None:
    """Leave a finished blend of other base models whose report is damaged."""
    write_experiment(folder, "c", 5, 3)
    done = call(Job("", ["blend", "a", "c", "--name", "blend"], undrawn), folder)
    assert done.returncode == 0, done.stderr
    report = folder / "experiments/blend/report.json"
    report.write_text(report.read_text()[:100])


def _write_probs(folder: Path) -> None:
    ids = [line.split(",")[0] for line in (folder / "train.csv").read_text().splitlines()[1:]]
    labels = [int(float(line.rsplit(",", 1)[1])) for line in
              (folder / "train.csv").read_text().splitlines()[1:]]  # fmt: skip
    write_probs(folder / "oof.csv", ids[:N], probs_for(np.array(labels), 5))
    tests = [line.split(",")[0] for line in (folder / "test.csv").read_text().splitlines()[1:]]
    write_probs(folder / "probs.csv", tests, probs_for(np.arange(M) % 3, 5))


def write_probs(path: Path, ids: list[str], probs: np.ndarray) -> None:
    """Write a probability file as a notebook would."""
    rows = [",".join([name, *map(str, row)]) for name, row in zip(ids, probs, strict=True)]
    path.write_text("\n".join(["id,prob_0,prob_1,prob_2", *rows]) + "\n")


def _write_submission(folder: Path) -> None:
    tests = [line.split(",")[0] for line in (folder / "test.csv").read_text().splitlines()[1:]]
    (folder / "submissions").mkdir()
    rows = [f"{name},1,0,0" for name in tests]
    text = "\n".join(["id,label_0,label_1,label_2", *rows]) + "\n"
    (folder / "submissions/mine.csv").write_text(text)


BEFORE: dict[str, Callable[[Path], None]] = {
    "refit": _finish_cv,
    "forced": _leave_another_blend,
    "import": _write_probs,
    "submit": _write_submission,
    "tune": lambda folder: (folder / "space.toml").write_text(SPACE) and None,
}
