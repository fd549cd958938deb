"""What a net sees of beats: its features, fitted on the rows that it trains on itself."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from hbcomp.features.base import FeatureConfig, MakeFeatures
from hbcomp.training.loader import Beats
from hbcomp.training.state import Member


@dataclass(frozen=True)
class Inputs:
    """The features of one net: made of the beats it was fitted on, or of any others."""

    beats: Beats
    make: MakeFeatures
    own: Int64[Tensor, " n"]  # of each of the beats the position among the references, or -1
    has_test_rows: bool  # whether the test rows lie behind the train rows, to be trained on

    def of_rows(self, rows: Int64[Tensor, " q"]) -> Float[Tensor, "q e"]:
        """Return the features of these rows of the beats; a reference does not see itself."""
        return self.make(self.beats.signals[rows], self.own[rows])

    def of_signals(self, signals: Float32[Tensor, "q t"]) -> Float[Tensor, "q e"]:
        """Return the features of signals that are no references."""
        return self.make(signals, self.own.new_full((len(signals),), -1))

    def of_test(self, signals: Float32[Tensor, "q t"]) -> Float[Tensor, "q e"]:
        """Return the features of the test signals; rows that are trained on are beats, too."""
        if not self.has_test_rows:
            return self.of_signals(signals)
        n_all = len(self.own)
        return self.of_rows(torch.arange(n_all - len(signals), n_all, device=self.own.device))

    def as_beats(self, *parts: Int64[Tensor, "_"]) -> Beats:
        """Return the beats with features in place of signals: those of the rows in `parts`, else 0.

        Each part is described by itself, as it is later on: other neighbours in a product may
        change its last bits.
        """
        features = [self.of_rows(rows) for rows in parts]
        seen = features[0].new_zeros(len(self.beats.signals), features[0].shape[1])
        return replace(
            self.beats, signals=seen.index_copy(0, torch.cat(parts), torch.cat(features))
        )


def fit_inputs(features: FeatureConfig, beats: Beats, member: Member) -> Inputs:
    """Return the features of a net, fitted on its training rows under the labels it is taught."""
    rows = member.train_idx
    labels = member.labels(beats)[rows]
    own = torch.full((len(beats.signals),), -1, device=beats.device)
    own[rows] = torch.arange(len(rows), device=beats.device)
    make = features.fit(beats.signals[rows], labels, beats.n_classes)
    return Inputs(beats, make, own, has_test_rows=member.train_labels is not None)
