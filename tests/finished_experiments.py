"""Experiment folders made without training: predictions by construction, reports by the writers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from hbcomp.competitions.competition import load_competition, metric_of
from hbcomp.competitions.load import load_data
from hbcomp.data.dataset import DataConfig
from hbcomp.data.synthetic import make_rows, write_competition_csv
from hbcomp.experiment import ROOT
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import (
    Computed,
    Environment,
    FoldScore,
    Report,
    as_json,
    data_numbers,
    scorecard,
)
from hbcomp.scoring.choice import choose, evaluate_rules
from hbcomp.scoring.metrics import MetricSpec

N, M, K = 60, 20, 3
HEARTBEAT = load_competition().file.metric
FILES = DataConfig(train=Path("train.csv"), test=Path("test.csv"))


def write_files(folder, seed=0):
    """Write train.csv with `N` beats and test.csv with `M` into the folder."""
    test = make_rows(n=M, t=16, k=K, seed=seed + 100)
    named = replace(test, ids=np.char.add("t", test.ids), labels=None)
    write_competition_csv(folder / "train.csv", make_rows(n=N, t=16, k=K, seed=seed))
    write_competition_csv(folder / "test.csv", named)


def write_into(folder, name, file, text):
    """Write a file of an experiment below `folder`."""
    place = folder / ROOT / name
    place.mkdir(parents=True, exist_ok=True)
    (place / file).write_text(text)


def probs_for(labels, n_wrong, k=K, start=0):
    """Return soft probabilities that call all but `n_wrong` rows right, those from `start` on."""
    called = labels.copy()
    is_wrong = slice(start, start + n_wrong)
    called[is_wrong] = (labels[is_wrong] + 1) % k
    return 0.1 + (1 - 0.1 * k) * np.eye(k)[called]


def write_experiment(folder, name, n_wrong=6, start=0, rule="", metric=HEARTBEAT, **changes):
    """Write the files of a finished run below `folder`, whose files are there, and return both.

    Without a `rule` it is the first of the metric's.
    """
    train, test = load_data(
        FILES.model_copy(update={"train": folder / "train.csv", "test": folder / "test.csv"})
    )
    labels = train.known_labels
    predictions = Predictions(
        train_ids=train.ids,
        labels=labels,
        fold_of_row=np.arange(N) % 5,
        oof_probs=probs_for(labels, n_wrong, start=start),
        test_ids=test.ids,
        test_probs=probs_for(np.arange(M) % K, n_wrong),
        train_fingerprint=train.fingerprint,
        test_fingerprint=test.fingerprint,
    )
    spec = MetricSpec(config=metric, classes=tuple(map(str, range(K))))
    scorer = metric_of(spec)
    rules = evaluate_rules(scorer, predictions.oof_probs, labels, predictions.fold_of_row)
    scores = {"n_rows": N, "scores": {}, "accuracy": 1.0, "last_loss": 0.1}
    of_run = Report(
        **dict(scorecard(spec, scorer, predictions, rules, choose(rules, rule or rules[0].name))),
        experiment=name,
        kind="run",
        config={"net": {"name": "resnet"}, "data": FILES.model_dump(mode="json")},
        data=data_numbers(train, test).model_copy(update={"train": "train.csv"}),
        folds=tuple(
            FoldScore(seed=seed, fold=fold, train_seconds=2.0, **scores)
            for seed in (0, 1)
            for fold in range(5)
        ),
        environment=Environment(gpu=None, compute=Computed(device="cpu", precision="fp32")),
    )
    report = {**as_json(of_run), **changes}
    place = folder / ROOT / name
    place.mkdir(parents=True)
    predictions.save(place / "predictions.npz")
    (place / "report.json").write_text(json.dumps(report))
    return predictions, report
