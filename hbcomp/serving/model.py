"""`hbcomp.load`: a finished run or blend, or an exported one, ready to answer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from hbcomp.data.dataset import without_padding
from hbcomp.experiment.recipe import BlendRecipe
from hbcomp.scoring.decision import most_likely
from hbcomp.serving.card import Card, Fold, find_model, folders_of_base, read_card
from hbcomp.system.errors import InputError

GRAPH: Final = "model.onnx"
AT_ONCE: Final = 16  # rows in a graph; measured: two rocket nets take 18 MB a row, and no less time
Probs = Float64[np.ndarray, "n k"]


@dataclass(frozen=True, eq=False)
class Model:
    """The mean of a run's nets, or the blend of several runs', and the decision rule, on a CPU.

    Signals have the shape (n, t) or (n, c, t) of the training rows, with NaN where there is no
    value; what pads rows in the competition's files may stand as it does there. Nothing is kept
    between two calls, so rows may come one at a time.
    """

    card: Card
    _predict: Callable[[Float32[np.ndarray, "n c t"]], Probs]

    @property
    def classes(self) -> Shaped[np.ndarray, " k"]:
        """The classes, in the order of the columns of probabilities."""
        return np.array(self.card.metric.classes)

    def predict_proba(self, signals: Any) -> Probs:
        """Return the probability of each class."""
        return self._predict(_checked(signals, self.card))

    def answers(self, signals: Any) -> Probs:
        """Return what a submission has: the probabilities after the decision rule."""
        return self.card.chosen.rule.apply(self.predict_proba(signals))

    def predict(self, signals: Any) -> Shaped[np.ndarray, " n"]:
        """Return the class with the largest answer of each row."""
        probs = self.predict_proba(signals)
        return most_likely(self.classes, self.card.chosen.rule.apply(probs), probs)


def load(run: str | Path, *, fold: Fold | None = None) -> Model:
    """Return the model of a finished run or blend, by its name, or that in an exported folder.

    The mean of the nets of all folds answers, or with `fold="all"` that of the nets that
    `hbcomp cv RUN --fold all` trained. A folder with ONNX files needs onnxruntime and no torch.
    """
    folder = find_model(run)
    card = read_card(folder, fold)
    return Model(card, _prediction(folder, card))


def _prediction(folder: Path, card: Card) -> Callable[[Float32[np.ndarray, "n c t"]], Probs]:
    """Return the function from signals to probabilities; no training code is imported for it.

    Except for a run whose nets see features of training rows, which are read from their file.
    """
    if card.recipe:
        return _blended(folder, card.recipe)
    if (folder / GRAPH).exists():
        return _session(folder / GRAPH)
    from hbcomp.serving import nets, references  # torch comes with these

    if nets.are_described(card):
        return references.load_described(folder, card)
    return nets.Ensemble(nets.load_nets(folder, card)).predict


def _blended(folder: Path, recipe: BlendRecipe) -> Callable[[Float32[np.ndarray, "n c t"]], Probs]:
    folders = folders_of_base(folder, recipe)
    parts = [_prediction(each, read_card(each)) for each in folders]
    return lambda signals: recipe.probs(np.stack([part(signals) for part in parts]))


def _session(path: Path) -> Callable[[Float32[np.ndarray, "n c t"]], Probs]:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f'{path}: needs onnxruntime: pip install "hbcomp[onnx]"') from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def predict(signals: Float32[np.ndarray, "n c t"]) -> Probs:
        starts = range(0, max(1, len(signals)), AT_ONCE)
        batches = ({"signals": signals[start : start + AT_ONCE]} for start in starts)
        return np.concatenate([session.run(["probs"], batch)[0] for batch in batches])

    return predict


def _checked(signals: Any, card: Card) -> Float32[np.ndarray, "n c t"]:
    found = np.asarray(signals)
    if found.dtype.kind not in "fiub":
        raise InputError(f"signals must be numbers, but are {found.dtype}")
    if found.ndim == 2:
        found = found[:, None]
    if found.shape[1:] != card.shape:
        n_channels, n_steps = card.shape
        wanted = f"(n, {n_channels}, {n_steps})" + f" or (n, {n_steps})" * (n_channels == 1)
        raise InputError(f"signals must have the shape {wanted}, but have {np.shape(signals)}")
    with np.errstate(over="ignore"):
        found = found.astype(np.float32)
    if np.isinf(found).any():
        raise InputError("signals: values must be finite in float32")
    return without_padding(found, card.data.padding_value)
