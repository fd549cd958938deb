"""A clone is clean: what the authors made lies apart, and git does not see what the user makes."""

import shutil
import subprocess
import tomllib

import pytest
from commands import run_hbcomp
from presets import ROOT, presets

from hbcomp.experiment import setup

# What commands write, and the competition's files.
MADE = [
    *("train.csv", "testA.csv", "data/train.csv", "groups.csv", "folds.csv"),
    *(f"experiments/quickstart/{name}" for name in ("run.toml", "run.lock", "oof.csv", "test.csv")),
    *(f"experiments/quickstart/{name}" for name in ("report.json", "report.html", "studies.db")),
    *(f"experiments/quickstart/{name}" for name in ("predictions.npz", "manifest.json")),
    *("experiments/quickstart/folds/0-0/model.safetensors", "experiments/quickstart/doubts.csv"),
    *("experiments/quickstart/mistakes.html", "experiments/quickstart/tuning/tune.json"),
    *("experiments/mine/config.toml", "experiments/mine/space.toml", "experiments/mine/pseudo.csv"),
    *("experiments/plan/plan.toml", "experiments/blend/recipe.json", "experiments/report.html"),
    *("experiments/comparisons/a~b.html", "experiments/eda/bundled/index.html"),
    *("experiments/bench/here.json", "experiments/results.csv.partial"),
    *("submissions/quickstart.csv", "submissions/ledger.csv", "submissions/ledger.lock"),
]


@pytest.mark.skipif(not shutil.which("git"), reason="asks git")
def test_git_ignores_what_the_user_makes_and_nothing_of_the_authors(tmp_path):
    def git(*words):
        done = subprocess.run(["git", *words], cwd=tmp_path, capture_output=True, text=True)
        return done.stdout.splitlines()

    theirs = ["experiments/results/a/report.html", "submissions/published/ledger.csv"]
    theirs += ["experiments/outside/outside.py", "experiments/LOG.md", "docs/results.csv"]
    git("init", "--quiet")
    shutil.copy(ROOT / ".gitignore", tmp_path)
    for name in (*MADE, *theirs):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    seen = [line.split()[1] for line in git("status", "--short", "--untracked-files=all")]
    assert sorted(seen) == sorted([".gitignore", *theirs])


def test_no_command_counts_what_the_authors_made():
    reports = ROOT.glob("experiments/*/report.json")
    assert not {path.parent.name for path in reports} & {"results", "outside"}
    for place in ("experiments/results", "submissions/published"):
        assert (ROOT / place).is_dir()


def test_the_published_ledger_knows_every_published_file(tmp_path):
    folder = ROOT / "submissions" / "published"
    done = run_hbcomp(["ledger", "--folder", str(folder)], tmp_path)
    assert done.returncode == 0
    assert '"unknown_files": []' in done.stdout


def test_the_wheel_packs_a_new_preset_where_it_is_sought():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    wheel = build["targets"]["wheel"]
    patterns = [f"/experiments/*/{name}.toml" for name in ("config", "space", "plan")]
    assert [*wheel["include"]] == ["/hbcomp", *patterns]
    assert build["artifacts"] == patterns  # git ignores them, a wheel must not
    assert ROOT / wheel["sources"]["experiments"] == setup.PRESETS[0]
    assert {"quickstart", "resnet", "lines"} <= set(presets("config.toml"))
