"""A plan within a time: the cheap experiments first, as many as fit, then further seeds of them."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hbcomp.blending import blend_runs
from hbcomp.blending.plan import Plan, last_numbers, train
from hbcomp.crossval.estimate import Estimate, estimate
from hbcomp.crossval.loop import AfterFold, FoldDone
from hbcomp.crossval.training_data import load_training_data
from hbcomp.experiment.folder import find_run
from hbcomp.experiment.recipe import read_recipe
from hbcomp.experiment.setup import Request
from hbcomp.reporting.pages import Table, print_table
from hbcomp.system.command import console
from hbcomp.system.errors import InputError
from hbcomp.system.stopwatch import Stopwatch, duration
from hbcomp.training.pseudo import PseudoConfig

MAX_SEEDS = 3  # assumed: a fourth seed of the same nets gains less than the hours are worth
SECONDS_TO_BLEND = 20.0  # assumed, until a blend has been timed


class OutOfTime(Exception):  # noqa: N818  # it is no error: the finished folds are kept
    """The remaining folds of an experiment do not fit into the time."""


class Clock:
    """The time that a plan has."""

    def __init__(self, hours: float) -> None:
        self._deadline = time.monotonic() + 3600 * hours
        self.seconds_to_blend = SECONDS_TO_BLEND  # kept free for the last blend

    @property
    def left(self) -> float:
        """The seconds left for training."""
        return self._deadline - time.monotonic() - self.seconds_to_blend

    def stops_late_folds(self, n_jobs: int) -> AfterFold:
        """Return what raises `OutOfTime` after a round of folds if the rest would end too late."""
        start = time.monotonic()

        def check(done: FoldDone) -> None:
            n_trained, n_pending = done.n_trained, done.n_pending
            if n_trained % n_jobs:
                return  # the other processes are about to finish theirs
            needed = (time.monotonic() - start) / n_trained * (n_pending - n_trained)
            if needed > max(0.0, self.left):
                raise OutOfTime(
                    f"{n_trained} of {n_pending} folds are trained and kept, and the others would "
                    f"take {duration(needed)} of the {duration(max(0.0, self.left))} left"
                )

        return check


@dataclass(frozen=True)
class Candidate:
    """An experiment of a plan, and how long its nets should take."""

    request: Request
    estimate: Estimate

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.request.run.name

    @property
    def sources(self) -> tuple[str, ...]:
        """The experiments whose pseudo-labels it learns."""
        return tuple(find_run(each).name for each in self.request.config.pseudo.runs)

    @property
    def n_pending(self) -> int:
        """The folds that are not stored yet."""
        folds, run = range(self.estimate.n_folds), self.request.run
        seeds = self.request.config.folds.seeds
        return sum(not run.is_done(seed, fold) for seed in seeds for fold in folds)

    @property
    def seconds(self) -> float:
        """About how long these take."""
        return self.estimate.seconds(self.n_pending)

    def with_further_seed(self) -> "Candidate":
        """Return the experiment with one more seed."""
        seeds = self.request.config.folds.seeds
        return replace(self, request=_with_seeds(self.request, (*seeds, max(seeds) + 1)))


@dataclass
class State:
    """What a plan has finished so far, and the time that it has for the rest."""

    name: str
    plan: Plan
    clock: Clock
    n_jobs: int | None
    force: bool
    runs: dict[str, Any] = field(default_factory=dict)  # the numbers of the finished experiments
    last: dict[str, Any] = field(default_factory=dict)  # those of the last submission's experiment

    def lacks_time(self, candidate: Candidate) -> str:
        """Return why an experiment would end too late, or nothing."""
        left = max(0.0, self.clock.left)
        if candidate.seconds <= left:
            return ""
        return f"it would take about {duration(candidate.seconds)} of the {duration(left)} left"

    def train(self, candidate: Candidate) -> str:
        """Train an experiment and blend it with the others; return why, if it was stopped."""
        left = duration(max(0.0, self.clock.left))
        seeds = ", ".join(map(str, candidate.request.config.folds.seeds))
        console.print(f"{self.name}: {candidate.name} with seed {seeds}, {left} left")
        after = self.clock.stops_late_folds(candidate.estimate.n_jobs)
        request = candidate.request
        if candidate.name in self.runs:  # which has written its config.toml
            request = replace(request, config_text=None)
        try:
            numbers = train(request, self.n_jobs, force=self.force, after_fold=after)
        except OutOfTime as stop:
            return str(stop)
        self.runs[candidate.name] = self.last = numbers
        self._blend()
        return ""

    def _blend(self) -> None:
        names = [each for each in self.plan.blend.base_models if each in self.runs]
        if len(names) > 1:
            start = time.monotonic()
            self.last = blend_runs.run(names, self.name, self.plan.blend.options, force=True)
            self.clock.seconds_to_blend = time.monotonic() - start


def carry_out_within(
    hours: float,
    name: str,
    plan: Plan,
    requests: Sequence[Request],
    watch: Stopwatch,
    *,
    n_jobs: int | None,
    force: bool,
) -> dict[str, Any]:
    """Train and blend what fits into the hours, and return the numbers of the last line.

    The cheapest experiment is trained first, and each further one is blended with those before it,
    so there is a submission from the first minutes on. An experiment that would not end in time is
    left out, and its finished folds are kept. The time that remains goes to further seeds. The
    hours are those of this call: a later one goes on from here, with hours of its own.
    """
    if any(each.config.compute.cluster for each in requests):
        raise InputError(
            "--hours times the nets on this machine, so it cannot be used with a cluster"
        )
    state = State(name, plan, Clock(hours), n_jobs, force)
    _check_folder(name, plan, force=force)
    candidates, left_out = _candidates(requests, n_jobs)
    _announce(candidates, state.clock)
    for each in candidates:
        missing = [source for source in each.sources if source in left_out]
        reason = f"it learns from {', '.join(missing)}" if missing else state.lacks_time(each)
        reason = reason or state.train(each)
        if reason:
            left_out[each.name] = reason
            console.print(f"{name}: {each.name} is left out: {reason}")
    if not state.last:
        reasons = [f"{each}: {reason}" for each, reason in left_out.items()]
        raise InputError.of(f"--hours {hours:g} is too little", reasons)
    _train_further_seeds([each for each in candidates if each.name in state.runs], state)
    return {**last_numbers(state.runs, state.last, watch), "left_out": left_out}


def _check_folder(name: str, plan: Plan, *, force: bool) -> None:
    """Refuse now what the blend would refuse later; a blend of fewer of the plan's is its own."""
    folder = find_run(name)
    blend_runs.check_folder(folder)
    if force or not folder.recipe_file.exists():
        return
    others = set(read_recipe(folder.recipe_file).base_models) - set(plan.blend.base_models)
    if others:
        raise InputError(
            f"{folder.path} holds a blend of others ({', '.join(sorted(others))}); --force "
            "replaces it"
        )


def _candidates(
    requests: Sequence[Request], n_jobs: int | None
) -> tuple[list[Candidate], dict[str, str]]:
    """Return the experiments in the order of training, and why others cannot be trained at all."""
    found, left_out = [], {}
    for request in map(with_stored_seeds, requests):
        console.print(f"{request.run.name}: timing")
        try:
            found.append(Candidate(request, _estimate(request, n_jobs)))
        except InputError as error:
            left_out[request.run.name] = str(error)
    if not found:
        raise InputError.of("", list(dict.fromkeys(left_out.values())))
    return _in_order(found), left_out


def _in_order(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the cheapest first, but each after those that it learns from."""
    by_name = {each.name: each for each in candidates}

    def depth(candidate: Candidate) -> int:
        sources = [by_name[each] for each in candidate.sources if each in by_name]
        return max((1 + depth(each) for each in sources), default=0)

    return sorted(candidates, key=lambda each: (depth(each), each.seconds))


def with_stored_seeds(request: Request) -> Request:
    """Return the request with the further seeds whose folds an earlier call finished."""
    folds, n_folds = request.config.folds, Counter[int]()
    for path in request.run.stored_folds():
        seed, _, fold = path.name.partition("-")
        n_folds[int(seed)] += fold.isdigit()
    n_of_first = n_folds[folds.seeds[0]]
    whole = [seed for seed, n in sorted(n_folds.items()) if n == n_of_first]
    more = [seed for seed in whole if seed not in folds.seeds]
    return _with_seeds(request, (*folds.seeds, *more)) if more else request


def _with_seeds(request: Request, seeds: tuple[int, ...]) -> Request:
    folds = request.config.folds.model_copy(update={"seeds": seeds})
    config = request.config.model_copy(update={"folds": folds})
    return replace(request, config=config, config_text=None)  # the file is as the run began


def _estimate(request: Request, n_jobs: int | None) -> Estimate:
    """Return how long the nets should take, without the rows that pseudo-labels will add."""
    config = request.config.model_copy(update={"pseudo": PseudoConfig()})
    console.quiet = True  # the training prints these warnings
    try:
        return estimate(config, load_training_data(config), request.run, n_jobs)
    finally:
        console.quiet = False


def _announce(candidates: Sequence[Candidate], clock: Clock) -> None:
    rows, end = [], 0.0
    for each in candidates:
        end += each.seconds
        fits = "yes" if end <= clock.left else "no"
        rows.append((each.name, each.n_pending, duration(each.seconds), fits))
    header = ("experiment", "folds to train", "about", "fits")
    print_table(Table(f"{duration(clock.left)} for training", header, rows), console)


def _train_further_seeds(candidates: Sequence[Candidate], state: State) -> None:
    """Give further seeds to base models, the one of the largest weight first, while they fit."""
    while candidates:
        weights = state.last.get("base_models", {})
        most = max(candidates, key=lambda each: weights.get(each.name) or 0.0)
        more = most.with_further_seed()
        others = [each for each in candidates if each is not most]
        n_seeds = len(more.request.config.folds.seeds)
        is_wanted = weights.get(most.name) != 0 and n_seeds <= MAX_SEEDS
        if is_wanted and not state.lacks_time(more):
            if reason := state.train(more):
                console.print(f"{state.name}: {most.name} gets no further seed: {reason}")
                state.train(most)  # its outputs were about to be replaced
            else:
                others.append(more)
        candidates = others
