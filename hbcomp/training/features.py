"""The features of one net, fitted on the rows that it trains on itself."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from hbcomp.features.base import FeatureConfig, MakeFeatures
from hbcomp.nets.signal_input import Scale
from hbcomp.nets.signals import SignalsConfig
from hbcomp.training.loader import DeviceData, all_rows
from hbcomp.training.state import Replica


@dataclass(frozen=True)
class FittedFeatures:
    """The features of one net, for the rows they were fitted on and for any others."""

    data: DeviceData
    scale: Scale
    make: MakeFeatures
    own: Int64[Tensor, " n"]  # the position of each row among the references, or -1
    trains_on_test: bool  # whether the test rows follow the train rows, to be trained on

    def of_rows(self, rows: Int64[Tensor, " q"]) -> Float[Tensor, "q d e"]:
        """Return the features of these rows of the data; no row is its own reference."""
        return self.make(_numbers(self.scale, self.data.signals[rows]), self.own[rows])

    def of_signals(self, signals: Float32[Tensor, "q c t"]) -> Float[Tensor, "q d e"]:
        """Return the features of signals that are no references."""
        return self.make(_numbers(self.scale, signals), self.own.new_full((len(signals),), -1))

    def of_test(self, signals: Float32[Tensor, "q c t"]) -> Float[Tensor, "q d e"]:
        """Return the features of the test signals, some of which may be references."""
        if not self.trains_on_test:
            return self.of_signals(signals)
        n_all = len(self.own)
        return self.of_rows(torch.arange(n_all - len(signals), n_all, device=self.own.device))

    def in_place_of_signals(self, *parts: Int64[Tensor, "_"]) -> DeviceData:
        """Return the data with features in place of signals, for the rows in `parts` and the test.

        Rows in no part have zeros. Each part is computed by itself, as in prediction, because the
        other rows of a product may change its last bits.
        """
        features = [self.of_rows(rows) for rows in parts]
        empty = features[0].new_zeros(len(self.data.signals), *features[0].shape[1:])
        test = self.data.test_signals
        return replace(
            self.data,
            signals=empty.index_copy(0, torch.cat(parts), torch.cat(features)),
            test_signals=None if test is None else self.of_test(all_rows(test)),
        )


def fit_features(
    features: FeatureConfig, signals: SignalsConfig, data: DeviceData, replica: Replica
) -> FittedFeatures:
    """Return the features of a net, fitted on its training rows and the labels that it learns.

    They are measured on scaled signals, with 0 where a row has no value.
    """
    rows = replica.train_idx
    scale = Scale(signals, data.shape[0]).to(data.device)
    scale.fit(data.signals, rows)
    labels = replica.labels(data)[rows]
    own = torch.full((len(data.signals),), -1, device=data.device)
    own[rows] = torch.arange(len(rows), device=data.device)
    make = features.fit(_numbers(scale, data.signals[rows]), labels, data.n_classes)
    return FittedFeatures(data, scale, make, own, trains_on_test=replica.train_labels is not None)


def _numbers(scale: Scale, signals: Tensor) -> Tensor:
    scaled: Tensor = scale(signals)
    return scaled.nan_to_num(0.0)
