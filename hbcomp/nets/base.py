"""What a net is to hbcomp: a section of the configuration that can build itself."""

from abc import abstractmethod
from typing import ClassVar

from torch import nn

from hbcomp.config import Section


class NetConfig(Section):
    """The configuration of a net; `build` turns it into a module from (b, t) to logits (b, k).

    Whatever a net wants to see beside the samples (a mask, differences) it makes itself, so
    that training and prediction cannot prepare their input differently.
    """

    # True where matrix products dominate: such a net gains from bf16 on a CPU that has it.
    is_compute_bound: ClassVar[bool] = False

    name: str

    @abstractmethod
    def build(self, n_timepoints: int, n_classes: int) -> nn.Module:
        """Return a freshly initialised net, drawing from torch's global generator."""
