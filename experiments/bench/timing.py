"""Measurements that can be compared: warmed up, interleaved, as medians with their spread."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Measure = Callable[[], float]

N_DIGITS = 4  # significant ones of a stated number; a median of three is not known better


@dataclass(frozen=True)
class Spread:
    """The middle and the ends of `n` measurements."""

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of these values."""
        return cls(statistics.median(values), min(values), max(values), len(values))

    def to_json(self) -> dict[str, float]:
        """Return the four numbers under their names."""
        ends = {name: significant(getattr(self, name)) for name in ("median", "low", "high")}
        return {**ends, "n": self.n}


def interleaved(
    contenders: Mapping[str, Measure], n_rounds: int, *, max_seconds: float = math.inf
) -> dict[str, list[float]]:
    """Return what each contender measured in every round; a round runs each of them once, in order.

    A round of warm-up comes first and is not counted. After `max_seconds` no other round begins,
    but there is always one.
    """
    start = time.perf_counter()
    for measure in contenders.values():
        measure()
    rounds: list[dict[str, float]] = []
    while len(rounds) < n_rounds:
        rounds.append({name: measure() for name, measure in contenders.items()})
        if time.perf_counter() - start >= max_seconds:
            break
    return {name: [each[name] for each in rounds] for name in contenders}


def ratio(values: Sequence[float], others: Sequence[float]) -> Spread:
    """Return the spread of `values / others`, round by round.

    Neighbours in time share the machine's state, whose clock was seen to drift by 40 % within
    minutes (measured): the median of their ratios is steady where the ratio of medians is not.
    """
    return Spread.of([value / other for value, other in zip(values, others, strict=True)])


def power_law(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """Return the exponent e of the least-squares fit costs ~ sizes^e in logarithms.

    None where a cost is not positive: what was measured then drowns in what was subtracted.
    """
    if min(costs) <= 0:
        return None
    log_sizes, log_costs = [[math.log(each) for each in values] for values in (sizes, costs)]
    return statistics.linear_regression(log_sizes, log_costs).slope


def significant(value: float) -> float:
    """Return the value rounded to `N_DIGITS` significant digits."""
    return float(f"{value:.{N_DIGITS}g}")


def spread_cells(spread: Mapping[str, Any]) -> list[str]:
    """Return median, low and high of a spread's JSON as cells of a table."""
    return [shown(spread[name]) for name in ("median", "low", "high")]


def shown(value: float | None) -> str:
    """Return a number as people read it, `-` for none: 3,510 or 12.3 or 0.0456."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
