"""Ridge regression on many features, with a leave-one-out choice of its penalty and probabilities.

One-hot targets are regressed on standardised features. One eigendecomposition of the smaller of the
two Gram matrices gives, for every penalty, what the regression says of each row when it is fitted
on all others. On these leave-one-out outputs the penalty is chosen, and a multinomial logistic
regression fitted that turns outputs into probabilities: honest ones, as no row's output was fitted
to its own label. After Dempster, Webb and Schmidt, "Prevalidated ridge regression is a
highly-efficient drop-in replacement for logistic regression for high-dimensional data", 2024
(arXiv:2401.15610), who fit a single scale.

Derivation. X are the centred and scaled features, Y the centred targets, X = U sqrt(S) V' with the
eigenvalues S of XX' and X'X. With the penalty p the fitted values of all rows are
HY = U S/(S + p) U'Y, beside the mean, whose own share of each row's diagonal is 1/n. The residual
of a row when it is left out is (Y - HY) / (1 - 1/n - diag(H)) (Allen 1974, PRESS); what is not
fitted anew is the scale of the features. The weights are V sqrt(S)/(S + p) U'Y, where
V sqrt(S) = X'U.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor, nn

# Penalties, in units of the number of features, which is the mean of the diagonal of XX'.
PENALTIES: Final = tuple(10 ** (place / 3) for place in range(-15, 7))
# The side of a Gram matrix up to which it is computed in double precision, which takes twice the
# time and memory.
MAX_DOUBLE: Final = 3_000
LEAST: Final = 1e-10  # of 1 - h, for rounding
# Measured on the training rows of 37 sets of the UCR archive, held-out log loss of the logistic
# regression: 0.313 with 100, 0.304 with 10, 0.314 with 1, 0.324 with 0.1; 0.318 with a scale alone.
LOGISTIC_PENALTY: Final = 10.0
# Where no class has two rows, so that nothing can be judged: about the median penalty and scale of
# 35 sets of that archive.
DEFAULT_PENALTY: Final = PENALTIES[3]  # 1e-4
DEFAULT_SCALE: Final = 2.0

# Called again and again, it gives the same features, blocks of rows in the same order.
Blocks = Callable[[], Iterable[Float32[Tensor, "_ f"]]]


class RidgeHead(nn.Module):
    """Standardised features times weights: logits."""

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("factor", torch.ones(n_features))  # 1 / standard deviation, or 0
        self.linear = nn.Linear(n_features, n_classes)
        self.mean: Tensor
        self.factor: Tensor

    def forward(self, features: Float32[Tensor, "b f"]) -> Float32[Tensor, "b k"]:
        """Return logits."""
        logits: Tensor = self.linear((features - self.mean) * self.factor)
        return logits

    @torch.no_grad()
    def fit(self, blocks: Blocks, labels: Int64[Tensor, " n"]) -> None:
        """Fit everything on the features of rows with these labels.

        The features are held at once if the rows are fewer than they, and otherwise computed three
        times: the memory that is needed grows with the smaller of the two numbers.
        """
        if len(labels) <= len(self.mean):
            features = torch.cat(list(blocks()))
            blocks = partial(iter, [features])
        mean, factor = standardisation(blocks)
        self.mean.copy_(mean)
        self.factor.copy_(factor)

        def standardised() -> Iterator[Tensor]:
            return ((block - self.mean) * self.factor for block in blocks())

        targets = F.one_hot(labels, self.linear.out_features).double() * 2 - 1
        decompose = decompose_rows if len(labels) <= len(self.mean) else decompose_features
        ridge = fit_ridge(decompose(standardised, targets - targets.mean(0)), targets, labels)
        judged = judged_rows(labels)
        scale, offset = fit_logistic(ridge.left_out[judged], labels[judged])
        self.linear.weight.copy_((ridge.weights @ scale).T)
        self.linear.bias.copy_(ridge.intercept @ scale + offset)


def standardisation(blocks: Blocks) -> tuple[Float[Tensor, " f"], Float[Tensor, " f"]]:
    """Return the mean of each feature and 1 / its standard deviation, or 0 if it is constant."""
    n_rows, shift, total, squares = 0, torch.tensor(0.0), torch.tensor(0.0), torch.tensor(0.0)
    for block in blocks():
        if n_rows == 0:  # sums of differences from a row lose no digits
            shift = block[0].double()
        shifted = block.double() - shift
        n_rows += len(block)
        total = total + shifted.sum(0)
        squares = squares + shifted.square().sum(0)
    mean = total / n_rows
    variance = squares / n_rows - mean.square()
    # What rounding of single precision leaves of a constant.
    is_constant = variance <= 1e-12 * (squares / n_rows + (shift + mean).square())
    return shift + mean, torch.where(is_constant, 0.0, variance.clamp(min=1e-300).rsqrt())


@dataclass(frozen=True)
class Decomposition:
    """The eigenvalues S, U'Y, U block by block, and X'U times a matrix."""

    eigenvalues: Float64[Tensor, " r"]
    projected: Float64[Tensor, "r k"]
    left: Callable[[], Iterable[Float[Tensor, "_ r"]]]
    from_left: Callable[[Float64[Tensor, "r k"]], Float64[Tensor, "f k"]]
    n_features: int


def decompose_rows(blocks: Blocks, centred: Float64[Tensor, "n k"]) -> Decomposition:
    """Return the decomposition by way of XX'; `centred` are the targets less their mean."""
    (features,) = blocks()  # (n, f)
    features = features.to(_precision(len(features)))
    eigenvalues, left = torch.linalg.eigh(features @ features.T)
    return Decomposition(
        eigenvalues=eigenvalues.clamp(min=0).double(),
        projected=(left.T @ centred.to(left.dtype)).double(),
        left=lambda: [left],
        from_left=lambda right: (features.T @ (left @ right.to(left.dtype))).double(),
        n_features=features.shape[1],
    )


def decompose_features(blocks: Blocks, centred: Float64[Tensor, "n k"]) -> Decomposition:
    """Return the decomposition by way of X'X, which is summed over blocks of rows."""
    gram = cross = None
    start = 0
    for each in blocks():
        block = each.to(_precision(each.shape[1]))
        if gram is None or cross is None:
            gram = block.new_zeros(block.shape[1], block.shape[1])
            cross = centred.new_zeros(block.shape[1], centred.shape[1])
        gram.addmm_(block.T, block)
        cross += block.T.double() @ centred[start : start + len(block)]
        start += len(block)
    assert gram is not None
    assert cross is not None
    eigenvalues, right = torch.linalg.eigh(gram)
    del gram
    # An axis without variance has no part in any output.
    floor = eigenvalues[-1] * torch.finfo(eigenvalues.dtype).eps * len(eigenvalues)
    inverse = torch.where(eigenvalues > floor, eigenvalues.clamp(min=floor).rsqrt(), 0.0)
    root = eigenvalues.clamp(min=0).double().sqrt()[:, None]
    return Decomposition(
        eigenvalues=eigenvalues.clamp(min=0).double(),
        projected=inverse[:, None].double() * (right.T @ cross.to(right.dtype)).double(),
        left=lambda: ((block.to(right.dtype) @ right) * inverse for block in blocks()),
        from_left=lambda of_left: (right @ (root * of_left).to(right.dtype)).double(),
        n_features=len(eigenvalues),
    )


def _precision(side: int) -> torch.dtype:
    return torch.float64 if side <= MAX_DOUBLE else torch.float32


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge regression, and what it says of each row when that is left out."""

    penalty: float
    weights: Float64[Tensor, "f k"]
    intercept: Float64[Tensor, " k"]
    left_out: Float64[Tensor, "n k"]


def fit_ridge(
    decomposition: Decomposition, targets: Float64[Tensor, "n k"], labels: Int64[Tensor, " n"]
) -> Ridge:
    """Return the regression whose penalty gives the least log-loss of scaled left-out outputs."""
    intercept = targets.mean(0)
    eigenvalues = decomposition.eigenvalues[:, None]
    penalties = decomposition.n_features * torch.tensor(PENALTIES, device=targets.device).double()
    shares = eigenvalues / (eigenvalues + penalties)  # (r, a)
    projected, parts, start = decomposition.projected, [], 0
    for left in decomposition.left():
        some = targets[start : start + len(left)]
        parts.append(_left_out(left, shares, projected, some, intercept, len(targets)))
        start += len(left)
    left_out = torch.cat(parts)  # (n, a, k)
    judged = judged_rows(labels)
    losses = [scaled_log_loss(each[judged], labels[judged]) for each in left_out.unbind(1)]
    chosen = min(range(len(losses)), key=losses.__getitem__)
    if not len(judged):
        chosen = PENALTIES.index(DEFAULT_PENALTY)
    of_left = projected / (eigenvalues + penalties[chosen])
    return Ridge(
        penalty=float(penalties[chosen]),
        weights=decomposition.from_left(of_left),
        intercept=intercept,
        left_out=left_out[:, chosen].double(),
    )


def _left_out(
    left: Float[Tensor, "b r"],
    shares: Float64[Tensor, "r a"],
    projected: Float64[Tensor, "r k"],
    targets: Float64[Tensor, "b k"],
    intercept: Float64[Tensor, " k"],
    n_rows: int,
) -> Float32[Tensor, "b a k"]:
    """Return the outputs of rows for each penalty when they are left out."""
    diagonal = left.square() @ shares.to(left.dtype)  # (b, a)
    free = (1 - 1 / n_rows - diagonal.double()).clamp(min=LEAST)
    weighted = (shares[:, :, None] * projected[:, None]).flatten(1).to(left.dtype)  # (r, a k)
    fitted = (left @ weighted).double().view(len(left), shares.shape[1], -1) + intercept
    target = targets[:, None]
    return (target - (target - fitted) / free[:, :, None]).float()


def judged_rows(labels: Int64[Tensor, " n"]) -> Int64[Tensor, " j"]:
    """Return the rows whose class has another row: without its only row a class is unknown."""
    return torch.nonzero(labels.bincount()[labels] > 1)[:, 0]


def smoothed(labels: Int64[Tensor, " n"], n_classes: int) -> Float64[Tensor, "n k"]:
    """Return targets with which a perfect separation does not ask for infinite weights.

    As if each class had one row more that is predicted so (Platt 1999, Laplace's rule).
    """
    one_hot = F.one_hot(labels, n_classes).double()
    return (one_hot * len(labels) + 1) / (len(labels) + n_classes)


def scaled_log_loss(outputs: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> float:
    """Return the log-loss of the softmax of outputs times the scale that is best for it."""
    outputs, targets = outputs.double(), smoothed(labels, outputs.shape[1])
    mean_of_targets = (targets * outputs).sum(1).mean()
    low, high = outputs.new_tensor(-7.0), outputs.new_tensor(7.0)  # of the scale's logarithm
    for _ in range(30):  # the loss is convex in the scale: halve where its slope changes sign
        middle = (low + high) / 2
        probs = (outputs * middle.exp()).softmax(1)
        is_falling = (probs * outputs).sum(1).mean() < mean_of_targets
        low, high = torch.where(is_falling, middle, low), torch.where(is_falling, high, middle)
    log_probs = (outputs * low.exp()).log_softmax(1)
    return -float((targets * log_probs).sum(1).mean())


def fit_logistic(
    outputs: Float64[Tensor, "n k"], labels: Int64[Tensor, " n"]
) -> tuple[Float64[Tensor, "k k"], Float64[Tensor, " k"]]:
    """Return the matrix and the offset that make logits of outputs: a scale, and what differs.

    `LOGISTIC_PENALTY` keeps the matrix near a multiple of the identity and the offset near 0, so
    that few rows can change little but the scale.
    """
    n_rows, n_classes = outputs.shape
    targets, identity = smoothed(labels, n_classes), torch.eye(n_classes).to(outputs)
    if not n_rows:
        return DEFAULT_SCALE * identity, outputs.new_zeros(n_classes)
    log_scale = outputs.new_zeros((), requires_grad=True)
    offset = outputs.new_zeros(n_classes, requires_grad=True)
    change = outputs.new_zeros(n_classes, n_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_scale, offset, change],
        max_iter=300,
        tolerance_grad=1e-7,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = outputs @ (log_scale.exp() * (identity + change)) + offset
        penalty = (change.square().sum() + offset.square().sum()) * LOGISTIC_PENALTY / n_rows
        found: Tensor = penalty - (targets * logits.log_softmax(1)).sum(1).mean()
        found.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        return found

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]  # nor here
    return (log_scale.exp() * (identity + change)).detach(), offset.detach()
