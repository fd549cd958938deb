"""How the files of a competition are laid out: the [data] of a competition.toml."""

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from hbcomp.system.config import Section

# list: one column holds a signal's values; wide: a column for each time step; long: a line for each
# time step; plain: as wide, without a header; array: .npy or .npz; ts: .ts of the UEA archive.
Layout = Literal["list", "wide", "long", "plain", "array", "ts"]


class DataLayout(Section):
    """The columns of the files and what stands in them; what is left out is recognised."""

    train: Path | None = None  # relative to the competition's folder
    test: Path | None = None
    train_labels: Path | None = None  # of an .npy
    layout: Layout | None = None
    id: str = "id"  # where no column has this name, rows are numbered from 0
    signal: str | None = None  # of the layout `list`: the column that holds the whole signal
    label: str = "label"  # of the layout `plain`: `first` or `last`
    group: str | None = None
    classes: tuple[str, ...] = ()  # the order of the probability columns; else sorted as in train
    channels: tuple[str, ...] = ()  # `long`: a column each; `wide`: columns such as acc_x_{step}
    order: str | None = None  # of the layout `long`: the column of the time steps
    ignore: tuple[str, ...] = ()  # of the layout `wide`: number columns that are no time steps
    missing: Literal["refuse", "zero", "hold", "mask"] = "refuse"
    pad: Literal["refuse", "end", "start"] = "refuse"  # where rows have unequal lengths
    padding_value: float | None = None  # what pads rows in the file: such ends are no values

    @model_validator(mode="after")
    def _check(self) -> "DataLayout":
        problems = []
        names = [self.id, self.signal, self.label, self.group, self.order, *self.channels]
        given = [name for name in names if name]
        if len(set(given)) < len(given):
            problems.append(f"the columns must have different names, but got {given}")
        if len(set(self.classes)) < len(self.classes):
            problems.append(f"classes must be unique, but got {list(self.classes)}")
        if len(self.classes) == 1:
            problems.append("there must be at least 2 classes")
        if self.layout == "long" and not (self.channels and self.order):
            problems.append("the layout long needs `channels` and `order`")
        if self.layout not in (None, "long", "wide") and self.channels:
            problems.append(f"`channels` are for the layouts long and wide, not {self.layout}")
        if self.layout not in (None, "long") and self.order:
            problems.append(f"`order` is for the layout long, not {self.layout}")
        if self.layout == "wide" and not all(each.count("{step}") == 1 for each in self.channels):
            problems.append(
                "channels of the layout wide must have {step} for the number of the time step, as "
                f"in acc_x_{{step}}, but are {list(self.channels)}"
            )
        if self.layout == "plain" and self.label not in ("first", "last"):
            problems.append(f"label must be first or last in the layout plain, but is {self.label}")
        if problems:
            raise ValueError("; ".join(problems))
        return self
