"""The page of a search: its trials, which of them were pruned, and the winner on a fresh seed."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from hbcomp.reporting import pages
from hbcomp.reporting.figures import tuning as drawings
from hbcomp.reporting.links import links_from
from hbcomp.reporting.pages import Picture, Table
from hbcomp.scoring.paired import as_text, is_better, is_beyond_noise
from hbcomp.tuning.search_space import as_json, as_param

Summary = Mapping[str, Any]

N_BEST: Final = 10  # beyond it they differ by chance more than by merit
N_BEST_PARAMS: Final = 5  # what fits beside each other on a page
N_PRUNED: Final = 40  # a screen or two; those who want all have the study
N_PANELS: Final = 6  # in one picture, so that it is no higher than a screen


def write_page(summary: Summary, folder: Path) -> Path:
    """Write `tune.html` and its pictures to the folder, and return the page's path."""
    trials, ordered = _trials(summary)
    drawn, sliced = _pictures(summary, trials), _slice_pictures(summary, ordered, trials)
    pages.write_pictures(folder / "pictures", [*drawn, *sliced])
    text = pages.Text(_about(summary), "The search")
    thresholds = [_threshold_table(summary["thresholds"])] if summary["thresholds"] else []
    sections: list[pages.Section] = [text, *drawn, *sliced, *tables(summary), *thresholds]
    sections += [_space_table(summary), *_pruned_tables(summary)]
    sections += [*_machines_table(summary), _provenance(summary)]
    page = folder / "tune.html"
    links = links_from(page, [summary["experiment"]], folder.parents[1])
    pages.write_page(page, _title(summary), verdict(summary), sections, links)
    return page


def tables(summary: Summary) -> list[Table]:
    """Return the best trials and the confirmed candidates; a table without rows is left out."""
    found = [_best_table(summary)]
    if summary["confirmed"]:
        found.append(_confirmed_table(summary["confirmed"], summary["n_rows"]))
    return [table for table in found if table.rows]


def n_saved(summary: Summary) -> int:
    """Return how many fold trainings of the pruned trials were never begun."""
    pruned = [trial for trial in summary["trials"] if trial["state"] == "pruned"]
    return sum(summary["n_folds"] - _n_begun(trial, summary) for trial in pruned)


def verdict(summary: Summary) -> str:
    """Return in a sentence which score to believe.

    That is the winner's on the last fresh seed. The first one picked the winner from the
    candidates, and the search picked the candidates, so their scores there are too good.
    """
    confirmed = summary["confirmed"]
    if not confirmed or not confirmed["winner"]:
        return "No trial was confirmed on a fresh seed, so no score here is free of selection bias."
    winner = confirmed["winner"]
    difference, error = float(winner["difference"]), float(winner["standard_error"])
    noise = "which is within noise"
    if is_beyond_noise(difference, error):
        is_gain = is_better(difference, 0.0, summary["greater_is_better"])
        noise = f"{'better' if is_gain else 'worse'} beyond noise"
    return (
        f"On fresh seed {confirmed['seeds'][-1]}, which chose nothing, trial {winner['trial']} "
        f"scores {_score(winner['fresh'])} against {_score(winner['base'])} of the base by "
        f"{summary['metric']}: a difference of {_gap(difference)} ± {_score(error)} (one standard "
        f"error), {noise}."
    )


# --- text -------------------------------------------------------------------------------------


def _title(summary: Summary) -> str:
    confirmed, best = summary["confirmed"], _whole(summary)[:1]
    if confirmed and confirmed["winner"]:
        found = f"score {_score(confirmed['winner']['fresh'])}, confirmed on a fresh seed"
    elif best:
        found = f"score {_score(best[0]['score'])} in the search, not confirmed"
    else:
        found = "no complete trial"
    return f"{summary['experiment']}: {found}"


def _about(summary: Summary) -> str:
    states = Counter(trial["state"] for trial in summary["trials"])
    n_own = states["complete"] + states["pruned"]
    n_whole = n_own * summary["n_folds"]
    saved, n_paths = n_saved(summary), len(summary["space"])
    share = f" ({100 * saved / n_whole:.1f} %)" if n_whole else ""
    return (
        f"Study {summary['study']} varied {n_paths} parameter{'s' * (n_paths != 1)} of "
        f"{summary['experiment']} (seed {summary['seed']}). Each trial is scored on the same "
        f"{summary['n_rows']:,} rows in {summary['n_folds']} folds: out-of-fold "
        f"{summary['metric']} under the fixed rule {summary['rule']}, the mean of the folds "
        "weighted by their rows. The best is chosen by the score it is shown with, which "
        "therefore has a selection bias. Trials: "
        f"{states['complete']} complete, {states['pruned']} pruned, {states['failed']} failed, "
        f"{states['carried']} carried over from an older version of the study. Pruning saved "
        f"{saved} of the {n_whole} fold trainings{share} that the {n_own} complete and pruned "
        "trials would have taken; a fold training that was begun counts as taken."
    )


# --- tables -----------------------------------------------------------------------------------


def _best_table(summary: Summary) -> Table:
    whole = _whole(summary)
    base = [each["score"] for each in whole if each["number"] == summary["base_trial"]]
    rows = [
        [
            trial["number"],
            trial["state"],
            _score(trial["score"]),
            _gap(trial["score"] - base[0]) if base else "-",
            f"{trial['seconds']:,.0f}",
        ]
        for trial in whole[:N_BEST]
    ]
    header = ["trial", "state", "score", "against base", "seconds"]
    title = f"Best {len(rows)} of {len(whole)} trials with all folds"
    note = (
        f"By {summary['metric']}. These have a selection bias: expect worse scores on fresh seeds."
    )
    return Table(title, header, rows, note)


def _confirmed_table(confirmed: Summary, n_searched: int) -> Table:
    measured = [("base", confirmed["base"])]
    measured += [(f"trial {each['trial']}", each) for each in confirmed["candidates"]]
    rows = [
        [
            name,
            _score(each["search"]),
            _score(each["fresh"]),
            "-" if each["search"] is None else _gap(each["fresh"] - each["search"]),
        ]
        for name, each in measured
    ]
    title = f"Best trials on fresh seed {confirmed['seeds'][0]}, {confirmed['n_rows']:,} rows"
    note = (
        "The best score of many trials has a selection bias, so most are worse on a fresh seed. "
        f"It picks the winner. The search scored {n_searched:,} rows, so a part of the change is "
        "due to other rows."
    )
    return Table(title, ["", "search", "fresh", "change"], rows, note)


def _pruned_tables(summary: Summary) -> list[Table]:
    """Return the table of pruned trials, the closest decisions first, if there are any."""
    stopped = [each for each in summary["trials"] if each["state"] == "pruned" or each["unscored"]]
    shown = sorted(stopped, key=_clearness)[:N_PRUNED]
    header = ["trial", "folds begun", "rows", "worse by", "boundary", "against", "why"]
    note = (
        "How much worse the score is than the incumbent's on the same rows, ± one standard error; "
        "beyond the boundary a trial is pruned. The closest decisions come first."
    )
    title = f"Pruned trials: {len(shown)} of {len(stopped)}"
    rows = [[each["number"], _n_begun(each, summary), *_reason(each)] for each in shown]
    return [Table(title, header, rows, note)] if rows else []


def _clearness(trial: Summary) -> tuple[float, int]:
    stopped = trial["stopped"]
    clearness = stopped["deficit"] / stopped["boundary"] if stopped else float("inf")
    return clearness, trial["number"]


def _reason(trial: Summary) -> list[object]:
    stopped = trial["stopped"]
    if not stopped:
        return ["-", "-", "-", "-", trial["unscored"] or "-"]
    return [
        f"{stopped['n_rows']:,}",
        f"{_score(stopped['deficit'])} ± {_score(stopped['standard_error'])}",
        _score(stopped["boundary"]),
        stopped["incumbent"],
        "beyond the boundary",
    ]


def _space_table(summary: Summary) -> Table:
    base = [each for each in summary["trials"] if each["number"] == summary["base_trial"]]
    best = [each for each in _whole(summary) if each not in base][:N_BEST_PARAMS]
    rows = []
    for path, entry in summary["space"].items():
        names, condition = _names(entry), _condition(entry.get("when") or {})
        params = [each["params"].get(path) for each in (*base, *best)]
        taken = ["-" if each is None else names.get(as_json(each), _value(each)) for each in params]
        rows.append([path, _range(entry), condition, *taken])
    header = ["parameter", "range", "when", *["base"] * len(base)]
    header += [f"trial {each['number']}" for each in best]
    return Table("The search space, and the values of the best trials", header, rows)


def _choices(entry: Summary) -> list[Any]:
    """Return the choices; numbers are sorted by size, where the space sorts them as text."""
    choices = list(entry.get("choices", []))
    return sorted(choices) if all(type(each) in (int, float) for each in choices) else choices


def _names(entry: Summary) -> dict[str, str]:
    """Return a short name for each choice; a range has none."""
    choices = _choices(entry)
    names = drawings.category_names([_value(choice) for choice in choices])
    params = [as_json(as_param(choice)) for choice in choices]
    return dict(zip(params, names, strict=True))


def _range(entry: Summary) -> str:
    if "choices" in entry:
        choices = zip(_names(entry).values(), map(_value, _choices(entry)), strict=True)
        return " | ".join(f"{name} {text}" if name != text else text for name, text in choices)
    is_stepped = entry.get("step") not in (None, 1)
    by_steps = f", in steps of {_value(entry['step'])}" if is_stepped else ""
    scale = ", log" if entry.get("log") else ""
    return f"{_value(entry['low'])} to {_value(entry['high'])}{by_steps}{scale}"


def _condition(when: Mapping[str, Sequence[Any]]) -> str:
    conditions = [f"{path} is {' or '.join(map(_value, values))}" for path, values in when.items()]
    return ", ".join(conditions) or "-"


def _threshold_table(study: Summary) -> Table:
    rows = [
        [f"Optuna, {study['n_trials']:,} trials", _score(study["optuna"]), "-"],
        ["exact optimum", _score(study["exact"]), _score(study["exact_cross_fitted"])],
    ]
    note = (
        f"The regret of the study is {_score(study['regret'])}: what its best pair of "
        "thresholds costs more than the exact optimum, which one sort finds. Only the "
        "cross-fitted score has no selection bias."
    )
    return Table(
        "Thresholds: the score of clip(lo, hi)", ["", "in-sample", "cross-fitted"], rows, note
    )


def _machines_table(summary: Summary) -> list[Table]:
    """Return which machine trained how much, where there were several."""
    machines = summary["machines"]
    if len(machines) < 2:
        return []
    header = ["machine", *next(iter(machines.values()))]
    return [Table("Machines", header, [[host, *n.values()] for host, n in machines.items()])]


def _provenance(summary: Summary) -> Table:
    rows = [
        [key, value if isinstance(value, str) else as_json(value)]
        for key, value in summary["environment"].items()
    ]
    return Table("Provenance", ["what", "value"], rows)


# --- pictures ---------------------------------------------------------------------------------


def _trials(summary: Summary) -> tuple[drawings.Trials, list[Summary]]:
    """Return the trials in the order of their numbers, as arrays and as they were given."""
    ordered = sorted(summary["trials"], key=lambda trial: int(trial["number"]))
    trials = drawings.Trials(
        numbers=np.array([trial["number"] for trial in ordered], dtype=np.int64),
        values=_floats(trial["score"] for trial in ordered),
        states=np.array([trial["state"] for trial in ordered], dtype=np.str_),
        score=drawings.ScoreAxis(
            summary["metric"], summary["greater_is_better"], summary["best_possible"]
        ),
    )
    return trials, ordered


def _pictures(summary: Summary, trials: drawings.Trials) -> list[Picture]:
    """Return the pictures except the slices; one without data is left out."""
    drawn = []
    if summary["confirmed"]:
        drawn.append(_confirmed_picture(summary["confirmed"], trials.score))
    if np.isfinite(trials.values).any():
        drawn.append(_history_picture(trials, summary["base_trial"]))
    if summary["importances"]:
        drawn.append(_importance_picture(summary["importances"]))
    return drawn


def _history_picture(trials: drawings.Trials, base: int | None) -> Picture:
    caption = (
        "Each trial's score. A pruned one has the mean of the folds it finished and never counts "
        f"as best. The grey band, where there is one, holds trials more than {drawings.CEILING:g} "
        "times as far from a perfect score as the best, and those without a score."
    )
    return Picture("tune-history", drawings.history(trials, base), caption)


def _confirmed_picture(confirmed: Summary, score: drawings.ScoreAxis) -> Picture:
    measured, winner = [confirmed["base"], *confirmed["candidates"]], confirmed["winner"]
    figure = drawings.confirmation(
        score,
        names=["base", *(f"trial {each['trial']}" for each in confirmed["candidates"])],
        search=_floats(each["search"] for each in measured),
        fresh=_floats(each["fresh"] for each in measured),
        winner=f"trial {winner['trial']}" if winner else None,
        difference=(
            (float(winner["difference"]), float(winner["standard_error"])) if winner else None
        ),
    )
    caption = (
        f"Above, the winner against the base on seed {confirmed['seeds'][-1]}, which picked "
        "nothing. Below, how the scores that the trials were chosen for changed on seed "
        f"{confirmed['seeds'][0]}."
    )
    return Picture("tune-confirmed", figure, caption)


def _importance_picture(shares: Mapping[str, float]) -> Picture:
    figure = drawings.importances(list(shares), _floats(shares.values()))
    caption = (
        "How much of the variation between trials Optuna attributes to each parameter; with few "
        "trials it is a rough guess."
    )
    return Picture("tune-importances", figure, caption)


def _slice_pictures(
    summary: Summary, ordered: Sequence[Summary], trials: drawings.Trials
) -> list[Picture]:
    """Return pictures of a few panels each, the most important parameters first."""
    is_scored = np.isfinite(trials.values)
    shares = summary["importances"]
    paths = sorted(summary["space"], key=lambda path: -shares.get(path, 0.0))
    parameters = [_parameter(path, summary["space"][path], ordered) for path in paths]
    shown = [each for each in parameters if np.isfinite(each.taken[is_scored]).any()]
    drawn = []
    for number, start in enumerate(range(0, len(shown), N_PANELS), 1):
        figure = drawings.slices(trials, shown[start : start + N_PANELS])
        names = ", ".join(each.name for each in shown[start : start + N_PANELS])
        caption = (
            f"The score of each trial by its value of {names}. Hollow marks are pruned trials."
        )
        drawn.append(Picture(f"tune-slices-{number}", figure, caption))
    return drawn


def _parameter(path: str, entry: Summary, ordered: Sequence[Summary]) -> drawings.Parameter:
    params = [trial["params"].get(path) for trial in ordered]
    if "choices" not in entry:
        span = float(entry["low"]), float(entry["high"])
        return drawings.Parameter(path, _floats(params), span, bool(entry.get("log")))
    names = _names(entry)
    places = {param: place for place, param in enumerate(names)}
    taken = _floats(None if each is None else places.get(as_json(each)) for each in params)
    return drawings.Parameter(path, taken, categories=list(names.values()))


# --- parts ------------------------------------------------------------------------------------


def _whole(summary: Summary) -> list[Summary]:
    """Return the trials with a score of all folds, the best first."""
    whole = [
        trial
        for trial in summary["trials"]
        if trial["state"] in ("complete", "carried") and trial["score"] is not None
    ]
    sign = -1 if summary["greater_is_better"] else 1
    return sorted(whole, key=lambda trial: (sign * trial["score"], trial["number"]))


def _n_begun(trial: Summary, summary: Summary) -> int:
    """Return in how many folds a trial has trained, whether it finished them or not."""
    finished = int(trial["n_folds"])
    if trial["unscored"]:
        return min(finished + 1, int(summary["n_folds"]))
    if not trial["stopped"]:
        return finished
    # Rows of a fold that was in training when its trial was stopped are counted whole.
    share = float(trial["stopped"]["n_rows"] / summary["n_rows"])
    return max(finished, round(share * int(summary["n_folds"])))


def _floats(values: Iterable[Any]) -> np.ndarray:
    """Return the numbers as an array, NaN for None."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _score(score: int | float | None) -> str:
    return "-" if score is None else as_text(float(score))


def _gap(difference: int | float) -> str:
    return as_text(float(difference), "+")


def _value(value: Any) -> str:
    """Return a configuration's value as short text."""
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float) else as_json(value)
