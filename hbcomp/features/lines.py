"""The distance of a row from each class: from the nearest line through two of its training rows.

The nearest feature line method (Li & Lu 1999, IEEE Trans. Neural Networks 10(2):439-443) takes
whatever lies on a line through two rows of a class to be of that class. Among the training rows
nearest to a row every pair spans a line; with a, b the differences of the pair from the row, the
squared distance to its line is (|a|^2 |b|^2 - (a.b)^2) / |a - b|^2, all of it in one Gram matrix.
The logarithms of the distances, of each class in several views, go to a linear net.

Where a class was filled up with rows that SMOTE interpolated between neighbours, as here, a row
lies on the lines through the rows that were made from it, so the score of a split by row is too
good. `floor` keeps the exact hits of such lines from standing out against merely near ones.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from pydantic import Field
from torch import Tensor

from hbcomp.features.base import FeatureConfig, MakeFeatures
from hbcomp.system.config import Section

GROUP = 16  # columns that the search for the nearest skips together
CHUNK = 128  # queries at once on a CPU; measured: 512 take 15 % longer
GPU_CHUNK = 2048  # assumed: 0.4 GB of distances to 50,000 references
LEAST_SPREAD = 1e-2  # of a flat signal that is to be normalised
FAR = 1e3  # where a class has no other training row: no distance at all


class View(Section):
    """A transformed part of the signal, in which distances are measured."""

    length: int = Field(default=0, ge=0)  # time steps from the start; 0 means all
    normalise: bool = False  # to mean 0 and standard deviation 1
    difference: bool = False  # of neighbouring time steps

    def of(self, signals: Float32[Tensor, "n c t"]) -> Float32[Tensor, "n v"]:
        """Return the view of every signal, channel after channel."""
        seen = signals[:, :, : self.length] if self.length else signals
        if self.difference:
            seen = seen.diff(dim=2)
        if self.normalise:
            seen = seen - seen.mean(2, keepdim=True)
            seen = seen / seen.std(2, correction=0, keepdim=True).clamp(min=LEAST_SPREAD)
        return seen.flatten(1).contiguous()


# Chosen on the 100,000 rows of the replica (experiments/LOG.md): beside the whole signal its first
# half, which is independent of the length of the beat, and its first wave at equal height, because
# a row is scaled by its highest peak.
VIEWS = (
    View(),
    View(difference=True),
    View(length=100),
    View(length=70, normalise=True),
    View(length=45, normalise=True),
)


class LinesConfig(FeatureConfig):
    """The views, and how many of a class's nearest training rows span lines in each."""

    is_of_fold: ClassVar[bool] = True

    name: Literal["lines"] = "lines"
    views: tuple[View, ...] = Field(default=VIEWS, min_length=1)
    n_components: int = Field(default=40, ge=1)  # principal components kept of each view
    n_neighbours: int = Field(default=20, ge=2)
    floor: float = Field(default=0.05, gt=0)  # added to a distance before its logarithm

    def shape(self, of_signals: tuple[int, int], n_classes: int) -> tuple[int, int]:  # noqa: ARG002
        """Return one feature per view and class."""
        return 1, len(self.views) * n_classes

    def operations_per_row(self, n_references: int) -> int:
        """Return those of its distances to all references, in every view."""
        return 2 * self.n_components * len(self.views) * n_references

    def fit(
        self, references: Float32[Tensor, "r c t"], labels: Int64[Tensor, " r"], n_classes: int
    ) -> MakeFeatures:
        """Return a function that measures the distances of signals to lines of `references`."""
        rows_of_class = [torch.nonzero(labels == each).flatten() for each in range(n_classes)]
        axes = [principal_axes(view.of(references), self.n_components) for view in self.views]
        of_views = [
            [
                _class_references(view.of(references[rows]) @ basis, rows, len(references))
                for rows in rows_of_class
            ]
            for view, basis in zip(self.views, axes, strict=True)
        ]

        def make(signals: Tensor, own: Tensor) -> Tensor:
            distances = [
                line_distance(seen, own, of_class, self.n_neighbours)
                for view, basis, of_view in zip(self.views, axes, of_views, strict=True)
                for seen in [view.of(signals) @ basis]
                for of_class in of_view
            ]
            return (torch.stack(distances, dim=1) + self.floor).log()[:, None]

        return make


def principal_axes(seen: Float[Tensor, "r v"], n_components: int) -> Float[Tensor, "v p"]:
    """Return the directions in which the references differ most, as columns.

    Distances along them are nearly those of all time steps, at a fifth of the cost. What is left
    out is mostly noise, and scores are better without it (experiments/LOG.md). A reference also
    contributes to the axes by which it is described itself; they depend on no labels.
    """
    centred = (seen - seen.mean(0)).double()
    n_rows, n_steps = centred.shape
    if n_rows > n_steps:
        axes: Tensor = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -n_components:]
    else:
        # C'u is an axis, up to its length, for every eigenvector u of CC', the smaller matrix:
        # 32 rows of 5,000 time steps take 0.04 s instead of minutes. Those of length 0, of which
        # centred rows have at least one, are replaced by other directions at right angles.
        squares, of_rows = torch.linalg.eigh(centred @ centred.T)
        is_axis = squares > squares[-1] * n_steps * torch.finfo(squares.dtype).eps
        found = centred.T @ of_rows[:, is_axis][:, -n_components:]
        n_more = min(n_components, n_steps) - found.shape[1]
        others = torch.eye(n_steps, n_more, dtype=found.dtype, device=found.device)
        axes = torch.linalg.qr(torch.cat([found, others], dim=1)).Q
    return axes.to(seen.dtype).contiguous()


@dataclass(frozen=True)
class ClassReferences:
    """One class's references in one view, prepared for searches.

    `columns` is their transpose above their squared norms, so that one product gives distances. It
    is padded to whole groups with columns that are infinitely far.
    """

    rows: Float32[Tensor, "r v"]
    columns: Float32[Tensor, "w c"]
    position: Int64[Tensor, " n"]  # of each reference of any class among these, or -1


def _class_references(
    rows: Float32[Tensor, "r v"], rows_of_class: Int64[Tensor, " r"], n_all: int
) -> ClassReferences:
    n_missing = -len(rows) % GROUP
    squares = F.pad((rows * rows).sum(1), (0, n_missing), value=torch.inf)
    position = torch.full((n_all + 1,), -1, device=rows.device)  # the last one for own == -1
    position[rows_of_class] = torch.arange(len(rows), device=rows.device)
    columns = torch.cat([F.pad(rows, (0, 0, 0, n_missing)).T, squares[None]])
    return ClassReferences(rows, columns, position)


def line_distance(
    queries: Float32[Tensor, "q v"],
    own: Int64[Tensor, " q"],
    references: ClassReferences,
    n_neighbours: int,
) -> Float[Tensor, " q"]:
    """Return each query's distance to the nearest line through two of its nearest references.

    A query that is a reference, at `own`, is no neighbour of itself. With a single neighbour the
    distance is that to the neighbour, and without any it is `FAR`.
    """
    k = min(n_neighbours, len(references.rows))
    if k == 0:
        return queries.new_full((len(queries),), FAR)
    size = CHUNK if queries.device.type == "cpu" else GPU_CHUNK
    parts = []
    chunks = torch.split(queries, size), torch.split(references.position[own], size)
    for chunk, own_position in zip(*chunks, strict=True):
        near = nearest(chunk, own_position, references, k)
        # With fewer than k others, the rest are the query itself or padding.
        is_other = (near != own_position[:, None]) & (near < len(references.rows))
        neighbours = references.rows[near.clamp(max=len(references.rows) - 1)]
        gaps = neighbours - chunk[:, None]  # (q, k, v)
        parts.append(_to_lines(gaps, is_other))
    return torch.cat(parts)


def nearest(
    queries: Float32[Tensor, "q v"], own: Int64[Tensor, " q"], references: ClassReferences, k: int
) -> Int64[Tensor, "q k"]:
    """Return the positions of the `k` nearest references of each query, in no order.

    `own` are the positions of the queries among the references, or -1. The k smallest of many
    numbers lie in the k groups with the smallest minima, so of most columns only the minimum of
    their group is needed.
    """
    distances = F.pad(-2 * queries, (0, 1), value=1) @ references.columns  # squared, less |query|^2
    is_own = torch.nonzero(own >= 0).flatten()
    distances[is_own, own[is_own]] = torch.inf
    if k * GROUP >= len(references.rows):
        return distances.topk(k, dim=1, largest=False, sorted=False).indices
    # A group is every (columns / GROUP)-th column, so that minima are taken of whole rows.
    grouped = distances.view(len(queries), GROUP, -1)
    groups = grouped.amin(1).topk(k, dim=1, largest=False, sorted=False).indices
    candidates = grouped.gather(2, groups[:, None].expand(-1, GROUP, -1)).flatten(1)
    best = candidates.topk(k, dim=1, largest=False, sorted=False).indices
    return best // k * grouped.shape[2] + groups.gather(1, best % k)


def _to_lines(gaps: Float32[Tensor, "q k v"], is_other: Tensor) -> Float[Tensor, " q"]:
    gram = gaps @ gaps.transpose(1, 2)
    squares = gram.diagonal(dim1=1, dim2=2).masked_fill(~is_other, torch.inf)
    first, second = squares[:, :, None], squares[:, None, :]
    between = first + second - 2 * gram
    # Equal references span no line, also after rounding.
    is_line = (between > 1e-6 * first) & between.isfinite()
    to_line = torch.where(is_line, (first * second - gram * gram) / between, torch.inf)
    closest = torch.minimum(to_line.flatten(1).amin(1), squares.amin(1)).clamp(min=0).sqrt()
    return closest.clamp(max=FAR)
