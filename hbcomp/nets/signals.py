"""The section of the configuration that says how signals are scaled."""

from typing import Literal

from hbcomp.system.config import Section


class SignalsConfig(Section):
    """How signals are scaled before a net sees them, by the rows that this net trains on.

    `min-max` maps each channel's least value to 0 and its greatest to 1, `standardise` its mean to
    0 and its standard deviation to 1; `per-row` does that to every row by itself, and `none`
    leaves the values as they are. Augmentation takes place on this scale.
    """

    scale: Literal["none", "standardise", "per-row", "min-max"] = "min-max"
