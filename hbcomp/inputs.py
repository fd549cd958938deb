"""What a net sees of beats: its features, fitted on the rows that it trains on itself."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from hbcomp.features.base import FeatureConfig, MakeFeatures
from hbcomp.training.loader import NO_LABEL, Beats
from hbcomp.training.state import Member


@dataclass(frozen=True)
class Fitted:
    """Features fitted on some of the beats."""

    make: MakeFeatures
    own: Int64[Tensor, " n"]  # of each of the beats the position among the references, or -1


@dataclass(frozen=True)
class Inputs:
    """The features of one net: made of the beats it was fitted on, or of any others.

    Its training rows are the references, under the labels it is taught. Where the features ask for
    it, all labelled rows are those of whatever is no labelled beat, and so is never scored.
    """

    features: FeatureConfig
    beats: Beats
    member: Member

    def of_rows(self, rows: Int64[Tensor, " q"]) -> Float[Tensor, "q e"]:
        """Return the features of these rows of the beats; a reference does not see itself."""
        return self._describe(rows, self._of_net)

    def of_signals(self, signals: Float32[Tensor, "q t"]) -> Float[Tensor, "q e"]:
        """Return the features of signals that are no references."""
        fitted = self._of_test
        return fitted.make(signals, fitted.own.new_full((len(signals),), -1))

    def of_test(self, signals: Float32[Tensor, "q t"]) -> Float[Tensor, "q e"]:
        """Return the features of the test signals; rows that are trained on are beats, too."""
        if self.member.train_labels is None:
            return self.of_signals(signals)
        n_all = len(self.beats.signals)
        rows = torch.arange(n_all - len(signals), n_all, device=self.beats.device)
        return self._describe(rows, self._of_test)

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

    @cached_property
    def _of_net(self) -> Fitted:
        return self._fit(self.member.train_idx)

    @cached_property
    def _of_test(self) -> Fitted:
        if not self.features.is_of_all_for_test:
            return self._of_net
        is_reference = self.beats.labels != NO_LABEL
        is_reference[self.member.train_idx] = True  # pseudo-labelled rows among them
        return self._fit(torch.nonzero(is_reference).flatten())

    def _fit(self, rows: Int64[Tensor, " r"]) -> Fitted:
        own = torch.full((len(self.beats.signals),), -1, device=self.beats.device)
        own[rows] = torch.arange(len(rows), device=self.beats.device)
        labels = self.member.labels(self.beats)[rows]
        make = self.features.fit(self.beats.signals[rows], labels, self.beats.n_classes)
        return Fitted(make, own)

    def _describe(self, rows: Int64[Tensor, " q"], fitted: Fitted) -> Float[Tensor, "q e"]:
        return fitted.make(self.beats.signals[rows], fitted.own[rows])
