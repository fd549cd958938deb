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
    id: str | None = None  # left out: `id`, or if there is no such column, rows count from 0
    signal: str | None = None  # of the layout `list`: the column that holds the whole signal
    label: str = "label"  # of the layout `plain`: `first` or `last`
    test_has_label: bool = False  # of the layout `plain`: the test file has that column, too
    group: str | None = None  # whole groups are held out; of an .npz: the name of an array
    classes: tuple[str, ...] = ()  # the order of the probability columns; else sorted as in train
    labels: Literal["names", "numbered"] = "names"  # numbered: 0, 1, 2, ... and nothing else
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
        if self.labels == "numbered" and (
            self.classes or self.layout not in (None, "list", "wide")
        ):
            problems.append("labels = numbered is for the layouts list and wide, without classes")
        if self.group is not None and self.layout in ("plain", "ts"):
            problems.append(
                f"the layout {self.layout} has no place for a group; a CSV of id,group does it: "
                "folds.groups"
            )
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
        if self.test_has_label and self.layout != "plain":
            problems.append(f"`test_has_label` is for the layout plain, not {self.layout}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def id_name(self) -> str:
        """The name of the id in files and submissions."""
        return self.id or "id"

    @property
    def label_name(self) -> str:
        """The name of the label in submissions and files of labels."""
        return "label" if self.layout == "plain" else self.label
