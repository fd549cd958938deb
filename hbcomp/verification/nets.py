"""The check that nets, loaded from their weights, give the probabilities that are stored."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from torch import Tensor

from hbcomp.crossval.predict import computed_as, load_net
from hbcomp.crossval.training_data import TrainingData, seen_by_nets
from hbcomp.data.dataset import Dataset
from hbcomp.experiment.predictions import ALL, Fold
from hbcomp.system.errors import InputError
from hbcomp.training.device import Compute, streams_rows
from hbcomp.training.inference import predict_probs
from hbcomp.training.loader import StreamedSignals, put_signals
from hbcomp.verification.run_under_test import NotChecked, RunUnderTest, as_words

Net = tuple[int, Fold]

# By how much another machine may change a probability. fp32: other kernels sum in another order;
# the others: rounding to 10 and to 8 bits in every layer. Assumed.
TOLERANCE = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 5e-2}


def predict_again(tested: RunUnderTest, names: Sequence[str] | None) -> str:
    """Predict the held-out and the test rows of some nets again, compare, and say how exactly.

    On the machine that trained them the probabilities must agree to the bit if that is a CPU, and
    elsewhere within `TOLERANCE`. `names` are those of `verify_run`.
    """
    nets = _nets(tested, names)
    if not tested.run.stored_folds():
        raise NotChecked("folds/ is not here")
    compute = _compute(tested)
    tested.data  # noqa: B018  # or nothing can be predicted
    compute.enter()
    is_exact = compute.device == "cpu" and tested.is_same_machine
    tolerance = 0.0 if is_exact else TOLERANCE[compute.precision]
    seen_by = _seen_by(tested, compute)
    gap_of = {
        f"folds/{seed}-{fold}": _gap(tested, (seed, fold), seen_by, compute) for seed, fold in nets
    }
    # The comparison is negated, so that weights that give NaN fail as well.
    problems = [
        f"{tested.run.path / name}/model.safetensors: its net gives other probabilities than those "
        f"stored (by {gap:.2g}, allowed {tolerance:g})"
        for name, gap in gap_of.items()
        if not gap <= tolerance
    ]
    if problems:
        raise InputError("; ".join(problems))
    return f"{', '.join(gap_of)}: the probabilities agree {as_words(tolerance)}"


def _nets(tested: RunUnderTest, names: Sequence[str] | None) -> list[Net]:
    of_folds, of_refit = _nets_of_folds(tested), _nets_of_refit(tested)
    if names is None:
        return [*of_folds[:1], *of_refit[:1]]
    known = {f"{seed}-{fold}": (seed, fold) for seed, fold in (*of_folds, *of_refit)}
    if unknown := [name for name in names if name not in known]:
        raise InputError(
            f"{tested.run.path}: there is no net {', '.join(unknown)}, but {', '.join(known)}"
        )
    return [known[name] for name in names or known]


def _nets_of_folds(tested: RunUnderTest) -> list[Net]:
    return [(each.seed, each.fold) for each in tested.report.folds]


def _nets_of_refit(tested: RunUnderTest) -> list[Net]:
    if not tested.run.refit_file.exists() or "refit.json" in tested.damaged:
        return []
    return [(seed, ALL) for seed in tested.refit.seeds]


def _seen_by(
    tested: RunUnderTest, compute: Compute
) -> Callable[[Net], tuple[Dataset, Dataset | None]]:
    """Return a function that gives the train and the test rows as a net sees them."""
    if not tested.config.features.is_of_fold:
        return lambda net: tested.data

    @cache  # features are made for all nets of a kind at once
    def of_kind(is_refit: bool) -> Callable[[int, Fold], TrainingData]:
        nets = _nets_of_refit(tested) if is_refit else _nets_of_folds(tested)
        data, device = tested.training_data, compute.device
        return seen_by_nets(tested.config, data, nets, device, compute.n_threads)

    def rows(net: Net) -> tuple[Dataset, Dataset | None]:
        seen = of_kind(net[1] == ALL)(*net)
        return seen.train, seen.test

    return rows


def _compute(tested: RunUnderTest) -> Compute:
    try:
        return computed_as(tested.config, tested.report.environment.compute, None)
    except InputError as error:  # a GPU that is not here
        raise NotChecked(str(error)) from error


def _gap(
    tested: RunUnderTest,
    net: Net,
    seen_by: Callable[[Net], tuple[Dataset, Dataset | None]],
    compute: Compute,
) -> float:
    """Return the largest difference between stored and new probabilities of one net."""
    name = f"folds/{net[0]}-{net[1]}/model.safetensors"
    if name in tested.damaged:
        raise NotChecked(f"{name} is damaged")
    stored, (train, _) = tested.load_fold(*net), tested.data
    net_again = load_net(tested.run, tested.config, train.shape, train.n_classes, net).to(
        compute.device
    )
    held_out, test = _inputs(tested, *seen_by(net), stored.valid_idx, compute.device)
    pairs = [(held_out, stored.valid_probs), (test, stored.test_probs)]
    gaps = [0.0]
    for signals, probs in pairs:
        # A net that was trained on everything holds nothing out.
        if signals is not None and probs is not None and len(probs):
            gaps.append(float(np.abs(predict_probs(net_again, signals, compute) - probs).max()))
    return float(np.max(gaps))  # unlike max(), which may pass over a NaN


def _inputs(
    tested: RunUnderTest,
    train: Dataset,
    test: Dataset | None,
    valid_idx: np.ndarray,
    device: str,
) -> tuple[Tensor | StreamedSignals, Tensor | StreamedSignals | None]:
    """Return the held-out and the test rows in the form that the net predicts from."""
    arrays = [train.signals, test.signals if test else None]
    is_streamed = streams_rows(tested.config.compute, device, *arrays)
    of_test = put_signals([test.signals], device, is_streamed) if test else None
    return put_signals([train.signals[valid_idx]], device, is_streamed), of_test
