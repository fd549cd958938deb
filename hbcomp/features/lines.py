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

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int64
from pydantic import Field
from torch import Tensor

from hbcomp.features.base import FeatureConfig, MakeFeatures
from hbcomp.system.config import Section

GROUP = 16  # columns that the search for the nearest skips together
CHUNK = 128  # queries at once on a CPU; measured: 512 take 15 % longer
LINES_CHUNK = 64  # of them, as to lines; measured: 128 take twice as long, in new pages of memory
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
        self,
        references: Float32[Tensor, "r c t"],
        labels: Int64[Tensor, "f r"],
        rows: Int64[Tensor, " m"],
        n_classes: int,
        n_threads: int = 1,
    ) -> MakeFeatures:
        """Return a function that measures the distances of signals to lines of each net's rows.

        A class is searched once for all nets. The bits do not depend on the number of threads.
        """
        of_views = []
        for view in self.views:
            seen = view.of(references)
            mean, axes = seen[rows].mean(0), principal_axes(seen[rows], self.n_components)
            projected = (seen - mean) @ axes
            of_classes = [
                _class_references(projected, labels == each, self.n_neighbours)
                for each in range(n_classes)
            ]
            of_views.append((view, mean, axes, of_classes))

        def make(signals: Tensor, own: Tensor) -> Tensor:
            distances = [
                line_distances(seen, own, of_class, self.n_neighbours, n_threads)
                for view, mean, axes, of_classes in of_views
                for seen in [(view.of(signals) - mean) @ axes]
                for of_class in of_classes
            ]
            return (torch.stack(distances, dim=2) + self.floor).log()[:, :, None]

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
    """The rows that any net knows as one class, in one view, prepared for searches.

    `columns` is their transpose above their squared norms, so that one product gives distances. It
    is padded to whole groups with columns that are infinitely far.
    """

    rows: Float32[Tensor, "r v"]
    columns: Float32[Tensor, "w c"]
    position: Int64[Tensor, " n"]  # of each row of the data among these, or -1
    is_known: Bool[Tensor, "f r"]  # to each net
    n_candidates: int  # among which nearly always `n_neighbours` are known to each net


def _class_references(
    rows: Float32[Tensor, "n v"], is_known: Bool[Tensor, "f n"], n_neighbours: int
) -> ClassReferences:
    of_class = torch.nonzero(is_known.any(0)).flatten()
    position = of_class.new_full((len(rows) + 1,), -1)  # the last one for own == -1
    position[of_class] = torch.arange(len(of_class), device=rows.device)
    rows, is_known = rows[of_class], is_known[:, of_class]
    n_missing = -len(rows) % GROUP
    squares = F.pad((rows * rows).sum(1), (0, n_missing), value=torch.inf)
    columns = torch.cat([F.pad(rows, (0, 0, 0, n_missing)).T, squares[None]])
    # The mean and three standard deviations of how many it takes, where the rows that a net does
    # not know lie anywhere. In whole fours, so that one row more or less changes nothing.
    known = max(0.5, (is_known.sum(1).min() / max(1, len(rows))).item())
    n_wanted = (n_neighbours + 3 * (n_neighbours * (1 - known)) ** 0.5) / known
    return ClassReferences(rows, columns, position, is_known, 4 * math.ceil(n_wanted / 4))


def line_distances(
    queries: Float32[Tensor, "q v"],
    own: Int64[Tensor, " q"],
    references: ClassReferences,
    n_neighbours: int,
    n_threads: int = 1,
) -> Float[Tensor, "f q"]:
    """Return each query's distance to the nearest line through two references, for every net.

    Those are two of the `n_neighbours` nearest among the references that the net knows. A query
    that is a reference, the row `own` of the data, is no neighbour of itself. With a single
    neighbour the distance is that to the neighbour, and without any it is `FAR`.
    """
    found = queries.new_full((len(references.is_known), len(queries)), FAR)
    if not len(references.rows):
        return found
    size = CHUNK if queries.device.type == "cpu" else GPU_CHUNK
    own_position = references.position[own]

    def work(first: int) -> None:
        # Distances have one place for all chunks: between these, the heap would grow by gigabytes.
        place = queries.new_empty(size, references.columns.shape[1])
        for start in range(first, len(queries), n_threads * size):
            rows = slice(start, start + size)
            chunk = queries[rows], own_position[rows]
            found[:, rows] = _of_chunk(*chunk, references, n_neighbours, place)

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(work, range(0, n_threads * size, size)))
    return found


def _of_chunk(
    queries: Float32[Tensor, "q v"],
    own: Int64[Tensor, " q"],
    references: ClassReferences,
    n_neighbours: int,
    place: Float32[Tensor, "s c"],
) -> Float[Tensor, "f q"]:
    """Return the distances of a few queries: one search, and another where a net knows too few.

    Which neighbours are found depends on no label that the net does not know.
    """
    is_known, n_all = references.is_known, len(references.rows)
    k = min(references.n_candidates, n_all)
    near = nearest(queries, own, references, k, place)
    is_other = (near != own[:, None]) & is_known[:, near]  # (f, q, k)
    is_near = is_other & (is_other.cumsum(2) <= n_neighbours)
    size = LINES_CHUNK if queries.device.type == "cpu" else GPU_CHUNK
    parts = zip(
        torch.split(queries, size),
        torch.split(near, size),
        torch.split(is_near, size, dim=1),
        strict=True,
    )
    found = torch.cat(
        [_to_lines(some, references.rows[at], is_at) for some, at, is_at in parts], dim=1
    )
    too_few = torch.nonzero(is_near.sum(2) < n_neighbours)
    if k < n_all and len(too_few):
        for pairs in torch.split(too_few, len(place)):
            nets, rows = pairs.T
            only = is_known[nets]
            near = nearest(queries[rows], own[rows], references, n_neighbours, place, only)
            is_near = (near != own[rows, None]) & only.gather(1, near)
            found[nets, rows] = _to_lines(queries[rows], references.rows[near], is_near[None])[0]
    return found


def nearest(
    queries: Float32[Tensor, "q v"],
    own: Int64[Tensor, " q"],
    references: ClassReferences,
    k: int,
    place: Float32[Tensor, "s c"],
    is_known: Bool[Tensor, "q r"] | None = None,
) -> Int64[Tensor, "q k"]:
    """Return the positions of the `k` nearest references of each query, the nearest first.

    `own` are the positions of the queries among the references, or -1; these and references that
    are not known come last. `place` takes the distances, of at least as many queries. The k
    smallest of many numbers lie in the k groups with the smallest minima, so of most columns only
    the minimum of their group is needed.
    """
    n_all = len(references.rows)
    factors = F.pad(-2 * queries, (0, 1), value=1)
    distances = place[: len(queries)]
    torch.mm(factors, references.columns, out=distances)  # squared, less |query|^2
    is_own = torch.nonzero(own >= 0).flatten()
    distances[is_own, own[is_own]] = torch.inf
    if is_known is not None:
        distances[:, :n_all].masked_fill_(~is_known, torch.inf)
    if k * GROUP >= n_all:
        return distances[:, :n_all].topk(k, dim=1, largest=False).indices
    # A group is every (columns / GROUP)-th column, so that minima are taken of whole rows.
    grouped = distances.view(len(queries), GROUP, -1)
    groups = grouped.amin(1).topk(k, dim=1, largest=False, sorted=False).indices
    candidates = grouped.gather(2, groups[:, None].expand(-1, GROUP, -1)).flatten(1)
    best = candidates.topk(k, dim=1, largest=False).indices
    found = best // k * grouped.shape[2] + groups.gather(1, best % k)
    return found.clamp(max=n_all - 1)


def _to_lines(
    queries: Float32[Tensor, "q v"],
    neighbours: Float32[Tensor, "q k v"],
    is_near: Bool[Tensor, "f q k"],
) -> Float[Tensor, "f q"]:
    """Return the distance to the nearest line through two of the neighbours near to each net."""
    gaps = neighbours - queries[:, None]
    # The queries last, so that minima are taken of whole rows: at an eighth of the time.
    gram = (gaps @ gaps.transpose(1, 2)).permute(1, 2, 0).contiguous()  # (k, k, q)
    squares = gram.diagonal().T.contiguous()
    first, second = squares[:, None], squares[None]
    between = first + second - 2 * gram
    # Equal references span no line, also after rounding; with itself each spans a point.
    to_line = torch.where(between > 1e-6 * first, (first * second - gram * gram) / between, first)
    far = torch.zeros_like(is_near, dtype=gram.dtype).masked_fill(~is_near, torch.inf)
    of_nets = far.transpose(1, 2).contiguous()  # (f, k, q)
    closest = [((to_line + each[:, None]).amin(0) + each).amin(0) for each in of_nets]
    return torch.stack(closest).clamp(min=0).sqrt().clamp(max=FAR)
