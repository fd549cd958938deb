"""What a few small commands write, as hashes: the same before and after a change of structure.

    python experiments/same_outputs.py FOLDER > before.txt
    python experiments/same_outputs.py OTHER > after.txt    # with the changed code
    diff before.txt after.txt

FOLDER is made and filled by the package of this checkout. Times and the environment are left out
of reports, nothing else is.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
TINY = ["train.n_epochs=1", "train.batch_size=64", "compute.n_threads=1"]
PLAN = 'runs = ["one", "two"]\n[blend]\nbase_models = ["one", "two"]\n'
# What differs from call to call.
CHANGING = {"seconds", "seconds_by_phase", "train_seconds", "environment", "machine"}


def settings(*others: str) -> list[str]:
    return [word for each in (*TINY, *others) for word in ("--set", each)]


FILES = ["--train", "train.parquet", "--test", "test.parquet", "--jobs", "1"]
COMMANDS = [
    ["cv", "resnet", *FILES, "--name", "one", *settings("folds.n_folds=3", "folds.seeds=[0, 1]")],
    ["cv", "wide", *FILES, "--name", "two", *settings("folds.n_folds=3", "net.hidden=16")],
    ["cv", "lines", *FILES, "--name", "three", *settings("folds.n_folds=3")],
    ["cv", "one", "--fold", "all", "--jobs", "1"],
    ["thresholds", "one", "--trials", "5"],
    ["blend", "one", "two", "three", "--name", "mix"],
    ["predict", "mix", "--data", "test.parquet", "--out", "again.csv"],
    ["tune", "two", "--space", "space.toml", "--trials", "3", "--jobs", "1"],
    ["compare", "one", "mix"],
    ["mistakes", "mix"],
    ["compete", "plan", *FILES],
]


def prepare(folder: Path) -> None:
    folder.mkdir(parents=True)
    bundled = ROOT / "hbcomp" / "data" / "bundled"
    pd.read_parquet(bundled / "train.parquet").head(600).to_parquet(folder / "train.parquet")
    pd.read_parquet(bundled / "test.parquet").head(100).to_parquet(folder / "test.parquet")
    (folder / "space.toml").write_text('"train.lr" = { low = 1e-3, high = 1e-2, log = true }\n')
    (folder / "experiments" / "plan").mkdir(parents=True)
    (folder / "experiments" / "plan" / "plan.toml").write_text(PLAN)


def run_all(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HBCOMP_CACHE": str(folder / "cache")}
    for words in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-m", "hbcomp", *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        print(f"exit code {done.returncode}: {' '.join(words[:2])}")
        if done.returncode:
            print(done.stderr[-2000:], file=sys.stderr)


def stable(value: Any) -> Any:
    """Return JSON without what changes from call to call."""
    if isinstance(value, dict):
        return {key: stable(each) for key, each in value.items() if key not in CHANGING}
    return [stable(each) for each in value] if isinstance(value, list) else value


def content(path: Path) -> bytes:
    if path.suffix == ".json":
        return json.dumps(stable(json.loads(path.read_text())), sort_keys=True).encode()
    if path.suffix == ".npz":
        arrays = np.load(path, allow_pickle=False)
        return b"".join(name.encode() + arrays[name].tobytes() for name in sorted(arrays.files))
    if path.name == "ledger.csv":
        return pd.read_csv(path, dtype=str).filter(regex="sha|file|rule|expected").to_csv().encode()
    if path.name == "history.csv":
        return pd.read_csv(path).drop(columns="seconds").to_csv().encode()
    return path.read_bytes()


def main(folder: Path) -> None:
    prepare(folder)
    run_all(folder)
    kinds = {".csv", ".json", ".npz", ".safetensors", ".toml"}
    for path in sorted(folder.rglob("*")):
        is_output = path.suffix in kinds and path.name != "manifest.json"
        if is_output and "cache" not in path.parts:
            print(hashlib.sha256(content(path)).hexdigest()[:16], path.relative_to(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
