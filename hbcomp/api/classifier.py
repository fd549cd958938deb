"""`hbcomp.SignalClassifier`: a preset as a classifier of scikit-learn."""

from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped
from numpy.random import RandomState
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from hbcomp.crossval.training_data import replica_of
from hbcomp.data.dataset import in_words
from hbcomp.experiment.config import Config
from hbcomp.experiment.predictions import ALL
from hbcomp.experiment.setup import prepare
from hbcomp.system.command import as_library
from hbcomp.system.config import as_assignments
from hbcomp.system.errors import InputError
from hbcomp.training.device import Compute, choose_compute, streams_rows
from hbcomp.training.features import FittedFeatures, fit_features
from hbcomp.training.fitting import fit_nets
from hbcomp.training.inference import predict_probs
from hbcomp.training.loader import DeviceData, put_on_device, put_signals
from hbcomp.training.state import Replica
from hbcomp.training.step import train_epochs

CACHED = "_features"  # an attribute that is made again, because functions cannot be pickled


class SignalClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # no types there
    """One net of a preset, trained on all rows that `fit` is given, under scikit-learn's rules.

    Signals have the shape (n, t) or (n, c, t), with NaN where there is no value; labels are of any
    kind. `overrides` change keys of the preset, as in `{"train.n_epochs": 3}`. The net is that of
    `hbcomp cv --fold all` with the seed `random_state`; the same rows and seed give the same bits.

    If `fit` is interrupted after its first epoch, the net is kept as it is: `predict` works,
    `n_epochs_` are its epochs, and `is_partial_` is True. The KeyboardInterrupt goes on, so that a
    search stops.
    """

    def __init__(
        self,
        preset: str = "resnet",
        *,
        overrides: Mapping[str, object] | None = None,
        random_state: int | RandomState | None = 0,
    ) -> None:
        self.preset = preset
        self.overrides = overrides
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "SignalClassifier":  # noqa: N803
        """Train the net on signals and labels, and return the classifier."""
        X, y = validate_data(  # noqa: N806
            self, X, y, allow_nd=True, ensure_all_finite="allow-nan", ensure_min_samples=2
        )
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise InputError("y must have at least 2 classes, but has one class")
        self.__dict__.pop("net_", None)  # an interrupted fit must not leave the former net
        self.__dict__.pop(CACHED, None)
        signals = _as_signals(X)
        config = self._config()
        self.config_, self.classes_, self.shape_ = config, classes, signals.shape[1:]
        # What features of a fold are measured from; other nets have no use for it.
        is_kept = config.features.is_of_fold
        self.references_ = (signals, labels) if is_kept else None
        compute = _compute(config)
        is_streamed = streams_rows(config.compute, compute.device, signals)
        data = put_on_device(signals, labels, compute.device, is_streamed=is_streamed)
        compute.enter()
        replica = replica_of(self._seed(), ALL, np.arange(len(labels)), None, data.device)
        if is_kept:
            self._features = _features(config, data, compute)
            data = replace(data, signals=self._features.of_rows[0])
        self._train(config, data, replica, compute)
        return self

    def _train(self, config: Config, data: DeviceData, replica: Replica, compute: Compute) -> None:
        recipe, net, self.n_epochs_ = config.recipe, None, 0
        self.is_partial_ = True
        try:
            if recipe.net.is_fitted:
                every_epoch = fit_nets(recipe, data, [replica])
            else:
                every_epoch = train_epochs(recipe, data, [replica], compute)
            for (epoch,) in every_epoch:
                net, self.n_epochs_ = epoch.net, epoch.epoch
            self.is_partial_ = False
        finally:
            if net is not None:
                self.net_ = net.cpu().eval()

    def predict_proba(self, X: Any) -> Float32[np.ndarray, "n k"]:  # noqa: N803
        """Return the probability of each class, in the order of `classes_`, in single precision."""
        check_is_fitted(self, "net_")
        X = validate_data(  # noqa: N806
            self, X, reset=False, allow_nd=True, ensure_all_finite="allow-nan"
        )
        signals = _as_signals(X)
        if signals.shape[1:] != self.shape_:
            raise InputError(
                f"X must have {in_words(self.shape_)} per row, as in fit, but has "
                f"{in_words(signals.shape[1:])}"
            )
        compute = _compute(self.config_)
        compute.enter()
        inputs = put_signals([signals], compute.device, False)
        assert isinstance(inputs, Tensor)
        if self.references_ is not None:
            inputs = self._fitted_features(compute).of_signals(inputs)[0]
        return predict_probs(self.net_.to(compute.device), inputs, compute)

    def predict(self, X: Any) -> Shaped[np.ndarray, " n"]:  # noqa: N803
        """Return the most probable class of each row."""
        probs = self.predict_proba(X)
        predicted: np.ndarray = self.classes_[probs.argmax(axis=1)]
        return predicted

    def _config(self) -> Config:
        with as_library(has_bars=False):
            assignments = as_assignments(self.overrides or {})
            config = prepare(self.preset, assignments, None).config
        if config.train.early_stopping.is_on or config.pseudo.runs:
            raise InputError(
                f"{self.preset}: train.early_stopping and pseudo.runs need held-out rows; "
                "hbcomp.cross_validate has them"
            )
        return config

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))

    def _fitted_features(self, compute: Compute) -> FittedFeatures:
        if CACHED not in self.__dict__:  # it was unpickled
            assert self.references_ is not None
            signals, labels = self.references_
            data = put_on_device(signals, labels, compute.device)
            self._features = _features(self.config_, data, compute)
        return self._features

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != CACHED}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        return tags


def _as_signals(X: np.ndarray) -> Float32[np.ndarray, "n c t"]:  # noqa: N803
    if X.ndim not in (2, 3):
        raise InputError(f"X must have the shape (n, t) or (n, c, t), but has {X.shape}")
    with np.errstate(over="ignore"):
        signals = X.astype(np.float32)
    if np.isinf(signals).any():
        raise InputError("X: values must be finite in float32")
    return signals[:, None] if signals.ndim == 2 else signals


def _compute(config: Config) -> Compute:
    return choose_compute(config.compute, is_compute_bound=config.net.is_compute_bound)


def _features(config: Config, data: DeviceData, compute: Compute) -> FittedFeatures:
    replica = replica_of(0, ALL, np.arange(len(data.labels)), None, data.device)
    n_threads = compute.n_threads
    return fit_features(config.features, config.signals, data, [replica], n_threads)
