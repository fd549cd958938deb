"""How well does each net do, alone and averaged over seeds, on a part of the training rows?

    python experiments/zoo_scores.py TRAIN OUT [NET ...]

Every preset of the zoo is cross-validated on the same 12,500 stratified rows of TRAIN, 5 folds, 2
seeds, 10 epochs (`lines` its own 15) and otherwise its own configuration, in OUT. The runs stay
there, and a second call continues; another TRAIN needs another OUT.
The last line is one JSON object.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from bench.beats import write_parquet
from bench.timing import shown
from sklearn.model_selection import train_test_split

from hbcomp.competitions.competition import load_competition
from hbcomp.data.dataset import Dataset
from hbcomp.data.reader import read_dataset
from hbcomp.experiment.folder import find_run
from hbcomp.reporting.pages import Table, print_table
from hbcomp.system.command import console

N_ROWS, N_EPOCHS, SEEDS = 12_500, 10, [0, 1]
ZOO = ("resnet", "wide", "inception", "dilated", "attention", "reference", "lines")
OWN_EPOCHS = {"lines"}  # a linear net: seconds


def draw(train: Path, sample: Path) -> None:
    full = read_dataset(train, load_competition().file.data, labelled=True)
    labels = full.known_labels
    rows, _ = train_test_split(
        np.arange(full.n_rows), train_size=N_ROWS, stratify=labels, random_state=0
    )
    rows = np.sort(rows)
    write_parquet(sample, Dataset(full.ids[rows], full.signals[rows], labels[rows], source="drawn"))


def run(name: str) -> dict[str, float]:
    settings = [f"folds.seeds={SEEDS}", "folds.n_folds=5"]
    settings += [] if name in OWN_EPOCHS else [f"train.n_epochs={N_EPOCHS}"]
    words = [word for setting in settings for word in ("--set", setting)]
    command = ["cv", name, "--train", "sample.parquet", "--name", f"zoo-{name}", *words]
    done = subprocess.run(
        [sys.executable, "-m", "hbcomp", *command], stdout=subprocess.PIPE, text=True, check=True
    )
    report = json.loads(find_run(f"zoo-{name}").report_file.read_text())
    rows = {seed: [f for f in report["folds"] if f["seed"] == seed] for seed in SEEDS}
    return {
        "single": float(np.mean([f["scores"]["half"] for f in report["folds"]])),
        "seeds": [float(np.mean([f["scores"]["half"] for f in rows[seed]])) for seed in SEEDS],
        "averaged": json.loads(done.stdout.splitlines()[-1])["oof_scores"]["half"]["in_sample"],
        "seconds": float(sum(f["train_seconds"] for f in report["folds"])),
    }


def main(train: Path, out: Path, names: list[str]) -> None:
    train = train.resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(out)
    if not Path("sample.parquet").exists():
        draw(train, Path("sample.parquet"))
    found = {name: run(name) for name in names or ZOO}
    header = ["net", "one seed", "the other", "both averaged", "CPU or GPU seconds"]
    rows = [
        [name, *map(shown, each["seeds"]), shown(each["averaged"]), shown(each["seconds"])]
        for name, each in found.items()
    ]
    print_table(Table(f"{N_ROWS:,} rows, 5 folds, rule half, per 20k", header, rows), console)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
