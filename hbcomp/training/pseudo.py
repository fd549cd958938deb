"""Pseudo-labels: test rows that a net trains on with the class that other nets agree on.

Lee 2013, "Pseudo-Label", ICML workshop on challenges in representation learning.

Why the out-of-fold score stays honest
--------------------------------------
The score of fold F is honest if the net N that answers F is a function of data without F's labels.
N is a function of its own training rows, which are not in F, and of the pseudo-labels it is given.
Those come only from sources' nets that held out the very rows of F in the very split N is trained
in. Such a source net is a function of the same training rows and of all signals; if it was itself
trained with pseudo-labels, they obey the same rule. So by induction no label of F reaches N. One
net of another fold, or the usual mean over all folds' test probabilities, would break this:
its nets saw F's labels, and a test row that resembles a row of F would carry them over to N.

What remains is what any choice by the out-of-fold score costs: `runs` and `min_prob` that were
picked among many by that score were picked on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import xxhash
from jaxtyping import Float64, Int64
from pydantic import Field

from hbcomp.system.config import Section, unique

Key = tuple[int, int]  # seed and fold


class PseudoConfig(Section):
    """Which test rows to train on as well; none without `runs`.

    `runs` are finished experiments on the same data and folds. A test row is used if each of them
    gives the same class a probability of at least `min_prob`.
    """

    runs: Annotated[tuple[str, ...], unique("runs")] = ()
    min_prob: float = Field(default=0.99, gt=0.5, le=1)  # above a half there is one class at most


@dataclass(frozen=True, eq=False)
class PseudoRows:
    """The test rows that one net trains on, with their class and its lowest probability.

    `agreement` is the share of all test rows that every source puts into the same class (None of
    one source), and `fingerprint` a hash of the probabilities that all of this comes from.
    """

    test_idx: Int64[np.ndarray, " p"]
    labels: Int64[np.ndarray, " p"]
    probs: Float64[np.ndarray, " p"]
    agreement: float | None
    fingerprint: str

    def numbers(self, n_classes: int) -> dict[str, Any]:
        """Return the counts and the agreement as JSON values."""
        return {
            "n_rows": len(self.labels),
            "by_class": tuple(np.bincount(self.labels, minlength=n_classes).tolist()),
            "agreement": self.agreement,
        }


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """The pseudo-labelled rows of each fold's net, and those of a net that holds nothing out."""

    of_fold: Mapping[Key, PseudoRows]
    of_all: PseudoRows

    def fingerprint(self, seed: int) -> str:
        """Return a hash of what the nets of one seed are given."""
        parts = [rows.fingerprint for key, rows in sorted(self.of_fold.items()) if key[0] == seed]
        return xxhash.xxh3_128_hexdigest("".join(parts).encode())

    def summary(self) -> str:
        """Return in a line how many rows each net is given, and how much the sources agree."""
        counts = [len(rows.labels) for rows in self.of_fold.values()]
        agreements = [
            each.agreement for each in self.of_fold.values() if each.agreement is not None
        ]
        agreed = (
            f"; the sources agree on {min(agreements):.1%} of all or more" if agreements else ""
        )
        return f"{min(counts):,} to {max(counts):,} test rows for each net{agreed}"


def pseudo_labels(
    probs_of_fold: Mapping[Key, Sequence[Float64[np.ndarray, "m k"]]], min_prob: float
) -> PseudoLabels:
    """Return the pseudo-labels that sources' test probabilities give, one array for each source.

    Those of a (seed, fold) must come from nets that held out that fold. A net that holds nothing
    out is scored on nothing, so it may learn from all of them: from each source's mean.
    """
    of_all = [np.mean(parts, axis=0) for parts in zip(*probs_of_fold.values(), strict=True)]
    return PseudoLabels(
        of_fold={key: select(probs, min_prob) for key, probs in probs_of_fold.items()},
        of_all=select(of_all, min_prob),
    )


def select(probs_of_source: Sequence[Float64[np.ndarray, "m k"]], min_prob: float) -> PseudoRows:
    """Return the test rows for which every source gives the same class at least `min_prob`."""
    stacked = np.stack(probs_of_source)  # (sources, m, k)
    least = stacked.min(axis=0)  # at most one class of a row has more than a half everywhere
    test_idx = np.flatnonzero(least.max(axis=1) >= min_prob)
    predicted = stacked.argmax(axis=2)
    return PseudoRows(
        test_idx=test_idx,
        labels=least[test_idx].argmax(axis=1),
        probs=least[test_idx].max(axis=1),
        agreement=float((predicted == predicted[0]).all(axis=0).mean())
        if len(stacked) > 1
        else None,
        fingerprint=xxhash.xxh3_128_hexdigest(stacked.view(np.uint8).data),
    )
