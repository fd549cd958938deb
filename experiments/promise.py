"""Does the expected score hold? Promised against real scores of labelled rows that were held out.

    python experiments/promise.py train.parquet cases.csv --draws 40
    python experiments/promise.py train.parquet cases.csv --draws 0     # only the table

Each draw takes 1,000 to 4,000 rows for training and 20,000 others as a test file, cross-validates
cheap models on the former with 3, 5 or 10 folds and one or two seeds, averages some of them, and
lets every metric choose its rule and promise a score, as a report does. A line of the file is one
case: what was promised of the answers to the test rows, and what they really score. Draws that the
file already has are not made again.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

from hbcomp.experiment.predictions import Predictions, sampled_rows
from hbcomp.experiment.report import scorecard
from hbcomp.features.lines import LinesConfig
from hbcomp.nets.base import FittedNetConfig
from hbcomp.nets.quant import QuantConfig
from hbcomp.nets.registry import build_net
from hbcomp.nets.resnet import ResNetConfig
from hbcomp.nets.rocket import RocketConfig
from hbcomp.nets.signals import SignalsConfig
from hbcomp.scoring.choice import choose, evaluate_rules
from hbcomp.scoring.metrics import MetricConfig, MetricSpec, make_metric
from hbcomp.scoring.paired import N_ERRORS_OF_NOISE

CLASSES = ("0", "1", "2", "3")
N_TEST = 20_000
CONFIGS = [
    MetricConfig(name="abs-sum", scale_rows=N_TEST),
    MetricConfig(name="accuracy"),
    MetricConfig(name="macro-f1"),
    MetricConfig(name="log-loss"),
]
BLENDS = [
    ("mlp", "trees"),
    ("linear", "trees"),
    ("mlp", "neighbours", "trees"),
    ("conv", "mlp"),
    ("lines", "rocket"),
    ("lines", "rocket", "quant"),
]
CONV_EVERY = 6  # draws; it takes as long as all others

Predict = Callable[[np.ndarray], np.ndarray]
Fit = Callable[[np.ndarray, np.ndarray, int], Predict]


def sklearn_model(make: Callable[[int], object]) -> Fit:
    """Return a scikit-learn classifier as a function of rows, labels and seed."""

    def fit(x: np.ndarray, y: np.ndarray, seed: int) -> Predict:
        return make(seed).fit(x, y).predict_proba

    return fit


def conv(x: np.ndarray, y: np.ndarray, seed: int) -> Predict:
    """Train a narrow resnet for 8 epochs of batch 64."""
    net = build_net(
        ResNetConfig(widths=(16, 32, 48), hidden=64), (1, x.shape[1]), 4, seed, SignalsConfig()
    )
    signals, labels = torch.tensor(x)[:, None], torch.tensor(y)
    n_steps = 8 * (len(x) // 64)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, n_steps, pct_start=0.15)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(8):
        for rows in torch.randperm(len(x), generator=generator).split(64)[: len(x) // 64]:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(signals[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    net.eval()

    @torch.no_grad()
    def predict(new: np.ndarray) -> np.ndarray:
        parts = torch.tensor(new)[:, None].split(2000)
        return torch.cat([net(part).softmax(1) for part in parts]).double().numpy()

    return predict


def fitted(config: FittedNetConfig) -> Fit:
    """Return a net that is fitted, not trained, as a function of rows, labels and seed."""

    def fit(x: np.ndarray, y: np.ndarray, seed: int) -> Predict:
        net = config.fit(torch.tensor(x)[:, None], torch.tensor(y), 4, seed)

        @torch.no_grad()
        def predict(new: np.ndarray) -> np.ndarray:
            parts = torch.tensor(new)[:, None].split(2000)
            return torch.cat([net(part).softmax(1) for part in parts]).double().numpy()

        return predict

    return fit


def lines(x: np.ndarray, y: np.ndarray, seed: int) -> Predict:  # noqa: ARG001
    """Fit a logistic regression on the distances to lines, to which no row is its own reference."""
    signals, labels = torch.tensor(x)[:, None], torch.tensor(y)
    rows = torch.arange(len(x))
    make = LinesConfig(n_neighbours=30).fit(signals, labels[None], rows, 4)
    model = LogisticRegression(max_iter=500, C=10)
    model.fit(make(signals, rows)[0, :, 0], y)

    def predict(new: np.ndarray) -> np.ndarray:
        seen = make(torch.tensor(new)[:, None], torch.full((len(new),), -1))
        return model.predict_proba(seen[0, :, 0])

    return predict


MODELS: dict[str, Fit] = {
    "linear": sklearn_model(lambda _: LogisticRegression(max_iter=200, C=10)),
    "mlp": sklearn_model(lambda seed: MLPClassifier((64,), max_iter=20, random_state=seed)),
    "neighbours": sklearn_model(lambda _: KNeighborsClassifier(5, weights="distance")),
    "trees": sklearn_model(lambda seed: ExtraTreesClassifier(40, random_state=seed)),
    "conv": conv,
    "lines": lines,
    "rocket": fitted(RocketConfig(transforms=("minirocket",), n_features=840)),
    "quant": fitted(QuantConfig(n_trees=50)),
}


def cross_validate(
    fit: Fit, x: np.ndarray, y: np.ndarray, test: np.ndarray, folds: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return out-of-fold probabilities (n, k) and those of the test rows by fold (f, m, k).

    `folds` has the fold of every row for each seed; probabilities are means over the seeds.
    """
    n_folds = folds[0].max() + 1
    oof, of_folds = np.zeros((len(x), 4)), np.zeros((n_folds, len(test), 4))
    for seed, fold_of_row in enumerate(folds):
        for fold in range(n_folds):
            held_out = fold_of_row == fold
            predict = fit(x[~held_out], y[~held_out], seed * 100 + fold)
            oof[held_out] += predict(x[held_out]) / len(folds)
            of_folds[fold] += predict(test) / len(folds)
    return oof, of_folds


def draw_cases(
    draw: int, x: np.ndarray, y: np.ndarray, models: Collection[str]
) -> Iterator[dict[str, object]]:
    """Yield the cases of one draw: each of the models and their blends under each metric."""
    rng = np.random.default_rng(draw)
    n_train = int(rng.choice([1000, 2000, 4000]))
    n_seeds, n_folds = int(rng.integers(1, 3)), int(rng.choice([3, 5, 10]))
    train, test = np.split(rng.permutation(len(x))[: n_train + N_TEST], [n_train])
    folds = []
    for seed in range(n_seeds):
        fold_of_row = np.empty(n_train, dtype=np.int64)
        split = StratifiedKFold(n_folds, shuffle=True, random_state=100 * draw + seed)
        for fold, (_, held_out) in enumerate(split.split(train, y[train])):
            fold_of_row[held_out] = fold
        folds.append(fold_of_row)
    made = {
        name: cross_validate(fit, x[train], y[train], x[test], folds)
        for name, fit in MODELS.items()
        if name in models and (name != "conv" or draw % CONV_EVERY == 0)
    }
    for names in BLENDS:
        if made.keys() >= set(names):
            parts = [made[name] for name in names]
            made["+".join(names)] = tuple(
                np.mean(part, axis=0) for part in zip(*parts, strict=True)
            )
    about = {"draw": draw, "n_train": n_train, "seeds": n_seeds, "folds": n_folds}
    for name, (oof, of_folds) in made.items():
        predictions = as_predictions(oof, of_folds, y[train], folds[0])
        for config in CONFIGS:
            yield about | {"model": name} | promised_and_real(config, predictions, y[test])


def as_predictions(
    oof: np.ndarray, of_folds: np.ndarray, labels: np.ndarray, fold_of_row: np.ndarray
) -> Predictions:
    """Return probabilities as those of a finished experiment."""
    mean = of_folds.mean(axis=0)
    return Predictions(
        train_ids=np.arange(len(labels)).astype(str),
        labels=labels,
        fold_of_row=fold_of_row,
        oof_probs=oof,
        test_ids=np.arange(len(mean)).astype(str),
        test_probs=mean,
        train_fingerprint="",
        test_fingerprint="",
        test_probs_of_fold=of_folds[:, sampled_rows(len(mean))].astype(np.float32),
    )


def promised_and_real(
    config: MetricConfig, predictions: Predictions, test_labels: np.ndarray
) -> dict[str, object]:
    """Return what a report says of the answers to the test rows, and what they score."""
    metric = make_metric(config, CLASSES)
    rules = evaluate_rules(
        metric, predictions.oof_probs, predictions.labels, predictions.fold_of_row
    )
    chosen = choose(rules)
    spec = MetricSpec(config=config, classes=CLASSES)
    expected = scorecard(spec, metric, predictions, rules, chosen).expected
    assert expected is not None
    of_folds = predictions.test_probs_of_fold
    assert of_folds is not None
    real = metric.score(chosen.rule.apply(predictions.test_probs), test_labels)
    alone = [metric.score(chosen.rule.apply(part.astype(float)), test_labels) for part in of_folds]
    return {
        "metric": config.name,
        "rule": chosen.name,
        "out_of_fold": chosen.cross_fitted,
        **expected.model_dump(exclude={"value"}),
        "expected": expected.value,
        "real": real,
        "real_gain": real - float(np.mean(alone)),
    }


def simulated(draw: int) -> Iterator[dict[str, object]]:
    """Yield cases of nets that err together and each by itself, on labels of known probability."""
    rng = np.random.default_rng(1_000_000 + draw)
    n_train, n_test, n_folds = int(rng.choice([1000, 4000])), 5000, int(rng.choice([3, 5, 10]))
    together, alone, sharpness = rng.uniform(0, 1.5), rng.uniform(0.1, 1.5), rng.uniform(1, 3)
    n = n_train + n_test
    logits = sharpness * rng.standard_normal((n, 4))
    labels = (logits + rng.gumbel(size=(n, 4))).argmax(axis=1)
    seen = logits + together * rng.standard_normal((n, 4))
    nets = softmax(seen + alone * rng.standard_normal((n_folds, n, 4)))
    fold_of_row = np.arange(n_train) % n_folds
    oof = nets[fold_of_row, np.arange(n_train)]
    predictions = as_predictions(oof, nets[:, n_train:], labels[:n_train], fold_of_row)
    about = {"draw": draw, "n_train": n_train, "seeds": 1, "folds": n_folds, "model": "simulated"}
    for config in CONFIGS:
        yield about | promised_and_real(config, predictions, labels[n_train:])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def table(cases: pd.DataFrame) -> str:
    """Return how often the interval held, by metric and model, in Markdown.

    `width` is that of the interval by that of the noise of the test rows alone, the median.
    """
    narrowest = 2 * N_ERRORS_OF_NOISE * cases.of_test_rows
    cases = cases.assign(
        inside=cases.real.between(cases.low, cases.high),
        error=(cases.real - cases.expected) / ((cases.high - cases.low) / (2 * N_ERRORS_OF_NOISE)),
        width=(cases.high - cases.low) / narrowest,
    )
    by = cases.groupby(["metric", "model"], sort=True)
    rows = by.agg(
        cases=("inside", "size"),
        inside=("inside", "mean"),
        error=("error", "mean"),
        spread=("error", "std"),
        width=("width", "median"),
        gain=("gain", "mean"),
        real_gain=("real_gain", "mean"),
    )
    total = cases.groupby("metric").inside.agg(["size", "mean"])
    return f"{rows.round(4).to_string()}\n\n{total.round(3).to_string()}"


def main() -> None:
    """Make the draws that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--models", nargs="*", default=[*MODELS], choices=[*MODELS])
    parser.add_argument("--simulated", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # an mlp of 20 epochs has not converged, which is meant
    rows = pd.read_parquet(options.train)
    x = np.stack(rows["heartbeat_signals"].to_numpy()).astype(np.float32)
    y = rows["label"].to_numpy().astype(np.int64)
    done = pd.read_csv(options.cases) if options.cases.exists() else pd.DataFrame()
    has = set(zip(done.draw, done.model == "simulated", strict=True)) if len(done) else set()
    for draw in (draw for draw in range(options.draws) if (draw, False) not in has):
        start = time.perf_counter()
        found = pd.DataFrame(draw_cases(draw, x, y, options.models))
        found.to_csv(options.cases, mode="a", header=not options.cases.exists(), index=False)
        print(f"draw {draw}: {len(found)} cases, {time.perf_counter() - start:.0f} s", flush=True)
    missing = [draw for draw in range(options.simulated) if (draw, True) not in has]
    if missing:
        found = pd.DataFrame(chain.from_iterable(map(simulated, missing)))
        found.to_csv(options.cases, mode="a", header=not options.cases.exists(), index=False)
    print(table(pd.read_csv(options.cases)))


if __name__ == "__main__":
    main()
