"""Training on everything: after a cross-validation, nets that hold no fold out."""

from typing import Any

from hbcomp.crossval.loop import (
    Outcome,
    announce,
    announce_schedule,
    cross_validate,
    resources_for,
    train_nets,
)
from hbcomp.crossval.pseudo_labels import write_pseudo_rows
from hbcomp.crossval.training_data import TrainingData, load_training_data
from hbcomp.experiment import stored_folds
from hbcomp.experiment.config import Config
from hbcomp.experiment.finish import submit, write_refit
from hbcomp.experiment.folder import RunFolder, locked
from hbcomp.experiment.predictions import ALL, Fold, FoldResult, mean_probs
from hbcomp.experiment.report import Chosen, PseudoRowNumbers, Refit, as_json
from hbcomp.experiment.resume import RunRecord, read_run
from hbcomp.experiment.setup import Request, write_config
from hbcomp.scoring.paired import as_text
from hbcomp.submissions import FOLDER
from hbcomp.submissions.files import Provenance
from hbcomp.submissions.ledger import read_ledger
from hbcomp.system.command import console
from hbcomp.system.errors import InputError
from hbcomp.system.stopwatch import Stopwatch


def run(request: Request, watch: Stopwatch, *, n_jobs: int | None) -> dict[str, Any]:
    """Train a net per refit seed on all rows, answer the test file, and return the numbers.

    The cross-validation must be finished, because the rule and the expected score are taken from
    it. No labelled row is left to score these nets on, so with pseudo-labels they may learn from
    all nets of the sources. Finished nets are kept, and the same call continues.
    """
    run = request.run
    _check_begun(run)
    with watch.phase("read"):
        training_data = load_training_data(request.config)
    for seed in request.config.refit.seeds:
        training_data.rows_of_net(seed, ALL)  # rows that cannot be watched are an error now
    with locked(run):
        if training_data.test:
            read_ledger(FOLDER)  # a damaged one is refused now, not after hours of training
        write_config(request, force=False)
        _check_finished(training_data, run)
        outcome = cross_validate(request.config, training_data, run, watch, n_jobs=n_jobs)
        first_fold = training_data.rows_of_net(*training_data.fold_keys[0]).train_idx
        config = refit_config(request.config, len(first_fold))
        results = _train(config, training_data, run, watch, n_jobs)
        refit = Refit(
            experiment=run.name,
            seeds=config.refit.seeds,
            n_epochs=config.train.n_epochs,
            n_rows=training_data.train.n_rows - _n_watched(training_data, request.config),
            pseudo=_pseudo_rows(training_data),
            chosen=Chosen(name=outcome.chosen.name, rule=outcome.chosen.rule),
            expected=outcome.chosen.cross_fitted,
            expectation="as the cross-validation, not measured",
            submission=_submit(outcome, results, run),
        )
        run.discard_manifest()
        if pseudo := training_data.pseudo:
            write_pseudo_rows(
                run.path / "pseudo-all.csv",
                outcome.predictions.test_ids,
                {(seed, ALL): pseudo.of_all for seed in refit.seeds},
                training_data.train.classes,
            )
        write_refit(run, refit)
    console.print(
        f"{len(refit.seeds)} nets on {refit.n_rows:,} rows, rule {refit.chosen.name!r}: expected "
        f"{as_text(outcome.chosen.cross_fitted)} as the cross-validation; not measured, because no "
        "labelled row is left"
    )
    return {**as_json(refit), "seconds": round(watch.total(), 1)}


def _check_begun(run: RunFolder) -> None:
    if read_run(run) is None:
        raise InputError(
            f"{run.path}: training on everything needs a finished cross-validation, "
            f"and there is none; first: hbcomp cv {run.name}"
        )


def _check_finished(training_data: TrainingData, run: RunFolder) -> None:
    missing = [f"{s}-{f}" for s, f in training_data.fold_keys if not run.is_done(s, f)]
    if missing:
        raise InputError(
            f"{run.path}: training on everything needs a finished cross-validation, but "
            f"{', '.join(missing)} (seed-fold) have still to train; first: hbcomp cv {run.name}"
        )


def refit_config(config: Config, n_rows_of_fold: int) -> Config:
    """Return the configuration of the nets that are trained on everything.

    The epochs are decided: few rows add none to `refit.n_epochs`, nor to those of the first fold's
    net, whose passes over each row the cross-validation measured.
    """
    n_epochs = config.refit.n_epochs or config.train.for_rows(n_rows_of_fold).n_epochs
    train = config.train.model_copy(update={"n_epochs": n_epochs, "min_steps": 0})
    return config.model_copy(update={"train": train})


def _train(
    config: Config,
    training_data: TrainingData,
    run: RunFolder,
    watch: Stopwatch,
    n_jobs: int | None,
) -> list[FoldResult]:
    seeds = config.refit.seeds
    identity = _record(config, training_data).fold_identity(seeds[0])  # it is that of all seeds
    stored = [seed for seed in seeds if run.is_done(seed, ALL)]
    for seed in stored:
        stored_folds.load_fold(run, identity, seed, ALL)  # a damaged one is refused first
    pending: list[tuple[int, Fold]] = [(seed, ALL) for seed in seeds if seed not in stored]
    if pending:
        # What was written of other nets must not be taken for what is written of these.
        run.discard_manifest()
        run.refit_file.unlink(missing_ok=True)
    resources = resources_for(config, training_data, run, pending, n_jobs)
    announce(run, resources, f"{len(seeds)} nets on everything", len(stored), len(pending))
    announce_schedule(config, training_data, pending)
    nets: list[tuple[int, Fold]] = [(seed, ALL) for seed in seeds]
    identity_of_seed = dict.fromkeys(seeds, identity)
    train_nets(config, training_data, run, nets, pending, identity_of_seed, resources, watch)
    return [stored_folds.load_fold(run, identity, seed, ALL) for seed in seeds]


def _record(config: Config, training_data: TrainingData) -> RunRecord:
    """Return what these nets depend on: no split, and the sources' nets of every fold."""
    identity = {**config.identity(), **training_data.data_fingerprints}
    if training_data.pseudo:
        identity["pseudo-labels"] = training_data.pseudo.of_all.fingerprint
    return RunRecord(identity=identity)


def _n_watched(training_data: TrainingData, config: Config) -> int:
    """Return how many labelled rows early stopping keeps from a net on everything."""
    watched = training_data.rows_of_net(config.refit.seeds[0], ALL).watched_idx
    return 0 if watched is None else len(watched)


def _pseudo_rows(training_data: TrainingData) -> PseudoRowNumbers | None:
    if training_data.pseudo is None:
        return None
    return PseudoRowNumbers(**training_data.pseudo.of_all.numbers(training_data.train.n_classes))


def _submit(outcome: Outcome, results: list[FoldResult], run: RunFolder) -> str | None:
    test = outcome.training_data.test
    if not test:
        return None
    probs = [result.test_probs for result in results if result.test_probs is not None]
    provenance = Provenance(
        source=run.name,
        recipe=f"cv --fold all of {len(probs)} nets, on {test.source}",
        rule=outcome.chosen.name,
        metric=outcome.training_data.metric.name,
        better="higher" if outcome.training_data.metric.greater_is_better else "lower",
        # No labelled row is left to score these nets on.
    )
    answers = outcome.chosen.rule.apply(mean_probs(probs))
    ids = outcome.predictions.test_ids
    return submit(f"{run.name}-{ALL}", ids, answers, provenance, outcome.training_data.form)
