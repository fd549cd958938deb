"""Every built-in metric on the out-of-fold rows of finished experiments, as a table in Markdown.

    python experiments/metric_table.py quickstart vowels

Each rule is cross-fitted over the folds. The gain is that of the chosen rule over the metric's
first one (argmax, raw or threshold 0.5), positive where it is better, with the standard error of
the paired difference. Metrics of one class are about the last; the cost matrix charges
|true - predicted| + 1 for the classes in their order.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hbcomp.experiment import ROOT
from hbcomp.experiment.predictions import Predictions
from hbcomp.scoring.choice import choose, evaluate_rules
from hbcomp.scoring.metrics import NAMES, MetricConfig, make_metric
from hbcomp.scoring.paired import paired_difference

COLUMNS = ("metric", "score", "standard error", "first rule", "chosen rule", "gain", "of the best")


def configuration(name: str, classes: list[str]) -> MetricConfig:
    """Return the metric of that name with the keys that it needs."""
    keys: dict[str, object] = {}
    if name in ("f1", "roc-auc"):
        keys = {"positive": classes[-1]}
    elif name == "top-k":
        keys = {"k": 2}
    elif name == "cost-matrix":
        keys = {"costs": Path("costs.csv")}  # only named: the matrix is handed over
    return MetricConfig(name=name, **keys)


def lines(name: str) -> Iterator[str]:
    """Yield the lines of an experiment's table."""
    found = Predictions.load(ROOT / name / "predictions.npz")
    classes = [str(each) for each in range(found.oof_probs.shape[1])]
    places = np.arange(len(classes))
    distances = np.abs(places[:, None] - places)
    costs = (distances + (distances > 0)).astype(float)
    yield f"{name}: {len(found.labels):,} rows, {len(classes)} classes"
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * len(COLUMNS)}"
    for metric_name in NAMES:
        metric = make_metric(configuration(metric_name, classes), classes, costs)
        rules = evaluate_rules(metric, found.oof_probs, found.labels, found.fold_of_row)
        chosen, first = choose(rules), rules[0]
        best = (max if metric.greater_is_better else min)(rules, key=lambda rule: rule.cross_fitted)
        cells = [
            metric_name,
            f"{chosen.cross_fitted:.4f}",
            f"{chosen.rows.standard_error:.4f}",
            first.name,
            chosen.name,
            "" if chosen is first else _gain(chosen, first, metric.greater_is_better),
            f"{best.name} {_gain(best, first, metric.greater_is_better)}"
            if best is not first
            else "",
        ]
        yield f"| {' | '.join(cells)} |"


def _gain(rule, first, greater_is_better: bool) -> str:
    difference = paired_difference(rule.rows, first.rows)
    value = difference.value if greater_is_better else -difference.value
    return f"{value:+.4f} ± {difference.standard_error:.4f}"


if __name__ == "__main__":
    for experiment in sys.argv[1:]:
        print(*lines(experiment), sep="\n", end="\n\n")
