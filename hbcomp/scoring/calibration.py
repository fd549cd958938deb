"""Calibration: making the probabilities frequencies, on log-probabilities.

Guo et al., "On Calibration of Modern Neural Networks", 2017, arXiv:1706.04599. For probabilities
the logits are their logarithms, up to a constant per row that the softmax takes out again.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal, Protocol

import numpy as np
from jaxtyping import Float, Float64, Int
from pydantic import Field, TypeAdapter, model_validator

from hbcomp.system.config import Section
from hbcomp.system.errors import InputError

Probs = Float64[np.ndarray, "n k"]
Labels = Int[np.ndarray, " n"]

# Assumed: 100,000 rows say nothing about anything rarer than one in a million, and a single net's
# 1e-30 must neither veto a class nor decide a log loss.
PROB_FLOOR = 1e-6
# Assumed: no usable net is off by a factor of 20, and a class that a bias of 10 does not bring up
# is not there.
MAX_FACTOR = 20.0
MAX_BIAS = 10.0


class NoCalibration(Section):
    """The probabilities as they are."""

    kind: Literal["none"] = "none"

    def apply(self, probs: Probs) -> Probs:
        """Return the probabilities themselves."""
        return probs


class Temperature(Section):
    """softmax(log p / temperature): above 1 softens, below 1 sharpens, the order stays."""

    kind: Literal["temperature"] = "temperature"
    temperature: float = Field(gt=0)

    def apply(self, probs: Probs) -> Probs:
        """Return the calibrated probabilities; those below `PROB_FLOOR` count as it."""
        return softmax(floored_log(probs) / self.temperature)


class VectorScaling(Section):
    """softmax(scale * log p + bias) with a scale and a bias for each class."""

    kind: Literal["vector"] = "vector"
    scales: tuple[float, ...]
    biases: tuple[float, ...]

    @model_validator(mode="after")
    def _check(self) -> "VectorScaling":
        if len(self.scales) != len(self.biases):
            raise ValueError(
                "scales and biases must be as many, but got "
                f"{len(self.scales)} and {len(self.biases)}"
            )
        return self

    def apply(self, probs: Probs) -> Probs:
        """Return the calibrated probabilities; refuses another number of classes."""
        if probs.shape[1] != len(self.scales):
            raise InputError(
                f"a calibration of {len(self.scales)} classes cannot be applied to "
                f"{probs.shape[1]} classes"
            )
        return softmax(floored_log(probs) * np.array(self.scales) + np.array(self.biases))


Calibration = NoCalibration | Temperature | VectorScaling
CALIBRATION_ADAPTER: TypeAdapter[Calibration] = TypeAdapter(
    Annotated[Calibration, Field(discriminator="kind")]
)


def log_loss(probs: Probs, labels: Labels) -> float:
    """Return the mean of -log p of the true class, p floored at `PROB_FLOOR`."""
    return float(-floored_log(probs)[np.arange(len(labels)), labels].mean())


def fit_temperature(probs: Probs, labels: Labels) -> Temperature:
    """Return the temperature of the least log loss of the targets, from 1/20 to 20.

    The log loss is convex in 1 / temperature, so it has one valley in the logarithm too.
    """
    from scipy.optimize import minimize_scalar

    logits, wanted = floored_log(probs), targets(labels, probs.shape[1])
    limit = np.log(MAX_FACTOR)
    best = minimize_scalar(
        lambda log_t: _loss(logits / np.exp(log_t), wanted)[0],
        bounds=(-limit, limit),
        method="bounded",
    )
    return Temperature(temperature=float(np.exp(best.x)))


def fit_vector(probs: Probs, labels: Labels) -> VectorScaling:
    """Return the scales and biases of the least log loss of the targets, from the temperature on.

    Every step lowers the log loss, so it is never above the temperature's on these rows.
    """
    from scipy.optimize import minimize

    n_classes = probs.shape[1]
    logits, wanted = floored_log(probs), targets(labels, n_classes)

    def loss_and_slopes(params: np.ndarray) -> tuple[float, np.ndarray]:
        loss, slopes = _loss(logits * params[:n_classes] + params[n_classes:], wanted)
        return loss, np.concatenate([(slopes * logits).sum(axis=0), slopes.sum(axis=0)])

    scale = 1.0 / fit_temperature(probs, labels).temperature
    start = np.repeat([scale, 0.0], n_classes)
    bounds = [(1 / MAX_FACTOR, MAX_FACTOR)] * n_classes + [(-MAX_BIAS, MAX_BIAS)] * n_classes
    best = minimize(loss_and_slopes, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return VectorScaling(scales=tuple(best[:n_classes]), biases=tuple(best[n_classes:]))


# From simple to complex.
CALIBRATIONS: Mapping[str, Callable[[Probs, Labels], Calibration]] = {
    "none": lambda _probs, _labels: NoCalibration(),
    "temperature": fit_temperature,
    "vector": fit_vector,
}


class Transform(Protocol):
    """What a fit returns: a calibration of probabilities or a combination of a stack of them."""

    def apply(self, probs: np.ndarray, /) -> Probs:
        """Return new probabilities of the same rows."""


def cross_fitted_probs(
    fit: Callable[[np.ndarray, Labels], Transform],
    probs: Float64[np.ndarray, "*m n k"],
    labels: Labels,
    fold_of_row: Int[np.ndarray, " n"],
) -> Probs:
    """Return what each row gets from the transform that was fitted on the other folds."""
    honest = np.empty(probs.shape[-2:])
    for fold in np.unique(fold_of_row):
        is_held_out = fold_of_row == fold
        fitted = fit(probs[..., ~is_held_out, :], labels[~is_held_out])
        honest[is_held_out] = fitted.apply(probs[..., is_held_out, :])
    return honest


def floored_log(probs: Float64[np.ndarray, "*n k"]) -> Float64[np.ndarray, "*n k"]:
    """Return the logarithms of the probabilities, those below `PROB_FLOOR` counted as it."""
    logs: Float64[np.ndarray, "*n k"] = np.log(np.maximum(probs, PROB_FLOOR))
    return logs


def softmax(logits: Float64[np.ndarray, "n k"]) -> Probs:
    """Return each row's probabilities; they sum to 1."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs: Probs = weights / weights.sum(axis=1, keepdims=True)
    return probs


def targets(labels: Labels, n_classes: int) -> Probs:
    """Return the probabilities that a calibration aims at: (n + 1) / (n + 2) of the label.

    That is Laplace's rule of succession for n rows. With 1 instead, a model that is right on all
    rows would be sharpened without end, and its first wrong row would cost what this had gained.
    Platt 1999, "Probabilistic outputs for support vector machines", has it by class.
    """
    n_rows = len(labels)
    wanted = np.full((n_rows, n_classes), 1 / (n_rows + 2) / (n_classes - 1))
    wanted[np.arange(n_rows), labels] = (n_rows + 1) / (n_rows + 2)
    return wanted


def _loss(logits: Float64[np.ndarray, "n k"], wanted: Probs) -> tuple[float, Probs]:
    """Return the mean log loss of softmax(logits) and its slope by each logit."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    loss = np.log(np.exp(shifted).sum(axis=1)) - (wanted * shifted).sum(axis=1)
    return float(loss.mean()), (softmax(logits) - wanted) / len(wanted)


def reliability_bins(
    probs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], n_bins: int
) -> tuple[Float[np.ndarray, " bins"], Float[np.ndarray, " bins"], Int[np.ndarray, " bins"]]:
    """Return mean probability, observed frequency and count of equally wide bins of all elements.

    Empty bins are left out.
    """
    values = probs.astype(np.float64).ravel()
    truths = (np.arange(probs.shape[1]) == labels[:, None]).ravel()
    bin_of = np.minimum((values * n_bins).astype(int), n_bins - 1)  # 1.0 belongs to the last
    counts = np.bincount(bin_of, minlength=n_bins)
    filled = counts > 0
    mean_probs = np.bincount(bin_of, values, n_bins)[filled] / counts[filled]
    frequencies = np.bincount(bin_of, truths, n_bins)[filled] / counts[filled]
    return mean_probs, frequencies, counts[filled]
