"""A run's nets, loaded from their weights, against the probabilities that are stored of them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hbcomp.crossval.predict import computed_as, load_net
from hbcomp.crossval.training_data import features_of_net
from hbcomp.experiment.predictions import ALL, Fold
from hbcomp.system.errors import InputError
from hbcomp.training.device import Compute
from hbcomp.training.inference import predict_probs
from hbcomp.verification.case import Case, NotChecked

Net = tuple[int, Fold]

# By how much another machine may change a probability. fp32: other kernels sum in another order;
# the others: rounding to 10 and to 8 bits in every layer. Assumed.
TOLERANCE = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 5e-2}


def predict_again(case: Case, names: Sequence[str] | None) -> str:
    """Predict the held-out and the test rows of some nets and compare; say how exactly.

    On the machine that trained them, a CPU, to the bit; elsewhere within `TOLERANCE`. `names` as
    in `verify_run`.
    """
    nets = _nets(case, names)
    if not case.run.stored_folds():
        raise NotChecked("folds/ is not here")
    compute = _compute(case)
    case.data  # noqa: B018  # or nothing can be predicted
    compute.enter()
    is_exact = compute.device == "cpu" and case.is_same_machine
    tolerance = 0.0 if is_exact else TOLERANCE[compute.precision]
    gap_of = {f"folds/{seed}-{fold}": _gap(case, (seed, fold), compute) for seed, fold in nets}
    # Not "gap > tolerance": weights that give no number at all must fail, too.
    wrong = [name for name, gap in gap_of.items() if not gap <= tolerance]
    if wrong:
        raise InputError(
            "; ".join(
                f"{case.run.path / name}/model.safetensors: its net gives other probabilities than "
                f"those stored (by {gap_of[name]:.2g}, allowed {tolerance:g})"
                for name in wrong
            )
        )
    how = f"within {tolerance:g} (another machine)" if tolerance else "to the bit"
    return f"{', '.join(gap_of)}: held-out and test probabilities again, {how}"


def _nets(case: Case, names: Sequence[str] | None) -> list[Net]:
    of_folds: list[Net] = [(each.seed, each.fold) for each in case.report.folds]
    of_refit: list[Net] = []
    if case.run.refit_file.exists() and "refit.json" not in case.damaged:
        of_refit = [(seed, ALL) for seed in case.refit.seeds]
    if names is None:
        return [*of_folds[:1], *of_refit[:1]]
    known = {f"{seed}-{fold}": (seed, fold) for seed, fold in (*of_folds, *of_refit)}
    if unknown := [name for name in names if name not in known]:
        raise InputError(
            f"{case.run.path}: there is no net {', '.join(unknown)}, but {', '.join(known)}"
        )
    return [known[name] for name in names or known]


def _compute(case: Case) -> Compute:
    try:
        return computed_as(case.config, case.trained.environment.compute, None)
    except InputError as error:  # a GPU that is not here
        raise NotChecked(str(error)) from error


def _gap(case: Case, net: Net, compute: Compute) -> float:
    """Return the largest difference between stored and new probabilities of one net."""
    name = f"folds/{net[0]}-{net[1]}/model.safetensors"
    if name in case.damaged:
        raise NotChecked(f"{name} is damaged")
    stored, (train, _) = case.load_fold(*net), case.data
    shape = train.n_timepoints, train.n_classes
    weighted = load_net(case.run, case.config, shape, net).to(compute.device)
    held_out, test = _shown(case, net, stored.valid_idx, compute.device)
    pairs = [(held_out, stored.valid_probs), (test, stored.test_probs)]
    gaps = [0.0]
    for signals, probs in pairs:
        # A net that was trained on everything holds nothing out.
        if signals is not None and probs is not None and len(probs):
            gaps.append(float(np.abs(predict_probs(weighted, signals, compute) - probs).max()))
    return float(np.max(gaps))  # unlike max(), which may pass over a NaN


def _shown(
    case: Case, net: Net, valid_idx: np.ndarray, device: str
) -> tuple[Tensor, Tensor | None]:
    """Return the held-out and the test rows as the net was shown them."""
    train_rows, test_rows = case.data
    rows = torch.tensor(valid_idx, device=device)
    test = torch.tensor(test_rows.signals, device=device) if test_rows else None
    if not case.config.features.is_of_fold:
        return torch.tensor(train_rows.signals, device=device)[rows], test
    features = features_of_net(case.config, case.training_data, *net, device)
    return features.of_rows(rows), None if test is None else features.of_test(test)
