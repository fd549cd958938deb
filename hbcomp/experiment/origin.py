"""The test file that a submission answers, found through the ledger and the experiment's report."""

import re
from dataclasses import dataclass
from pathlib import Path

from hbcomp.competitions.competition import DEFAULT, load_competition, metric_of
from hbcomp.competitions.load import classes_of, read_rows, with_files
from hbcomp.competitions.submission_form import SubmissionForm, known_form
from hbcomp.data.dataset import DataConfig
from hbcomp.data.sample import TEST
from hbcomp.experiment import ROOT
from hbcomp.experiment.report import Report, read_report
from hbcomp.scoring.metrics import Metric
from hbcomp.submissions.ledger import BY_HAND, Entries, Entry, find, sha256_of
from hbcomp.submissions.submit import ExpectedIds
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError

SAMPLE = "the bundled test rows"
EDITED = re.compile(r"edited from [0-9a-f]+ \((.+)\)")  # as the ledger says of an edited file


@dataclass(frozen=True)
class FileOptions:
    """The options of a command that name the test file and its competition, if given."""

    test: Path | None = None
    competition: str | None = None


def answered_by(path: Path, entries: Entries, options: FileOptions) -> ExpectedIds | None:
    """Return the test rows that were named, or else those that the experiment answered.

    None where no test file is named and no experiment is here that wrote the file or, for one
    that was edited, the file of its name.
    """
    origin = _origin(path, entries)
    config, written_for, form = origin or (DataConfig(), None, None)
    if options.competition is not None:
        config = DataConfig(competition=options.competition)
        form = known_form(config)
    if options.test is not None:
        return _read(options.test, config, form, is_own=False)
    if origin is None and options.competition is None:
        return None
    files = with_files(config)
    if files.train is None and written_for is None:
        return sample()
    test = written_for or files.test
    if test is not None and not test.exists():
        raise InputError(
            f"{test}: no such file, but {path} was written for it; name the test file with --test"
        )
    return None if test is None else _read(test, config, form, is_own=written_for is None)


def sample() -> ExpectedIds:
    """Return the bundled test rows."""
    rows = read_rows(TEST, DataConfig(), labelled=False)
    return ExpectedIds(rows.ids, "id", SAMPLE)


def _read(
    test: Path, config: DataConfig, form: SubmissionForm | None, *, is_own: bool
) -> ExpectedIds:
    rows = read_rows(test, config, labelled=False)
    if form is not None and not is_own:
        form = form.of_other_rows(rows.ids.tolist())
    file = load_competition(config.competition).file
    return ExpectedIds(rows.ids, file.data.id_name, str(test), form, file.submission.per_day)


def _origin(
    path: Path, entries: Entries
) -> tuple[DataConfig, Path | None, SubmissionForm | None] | None:
    """Return how the experiment read its data, the file that `predict` answered, and the form."""
    if not path.is_file():
        return None
    known = find(entries, sha256_of(path))
    same_name = [each for each in reversed(entries) if each.file == path.name]
    for entry in [*([known] if known else []), *same_name]:
        if entry.source != BY_HAND and (config := data_config_of(entry.source)):
            return config, _predicted(entry), form_by(entry)
    return None


def data_config_of(name: str) -> DataConfig | None:
    """Return how an experiment's data were read; those of a blend are its base models'."""
    path = ROOT / name / "report.json"
    if Path(name).name != name or not path.exists():
        return None
    report = read_report(path)
    if report.data_config:
        return validate(DataConfig, report.data_config, path)
    of_base_models = (
        data_config_of(base_model) for base_model in report.base_models if base_model != name
    )
    return next(filter(None, of_base_models), None)


def metric_by(entry: Entry, competition: str | None = None) -> Metric:
    """Return the metric of the experiment that made a submission, or else of the competition."""
    if report := _report_by(entry):
        return metric_of(report.metric)
    config = DataConfig(competition=competition or DEFAULT)
    classes = classes_of(config) or ("0", "1", "2", "3")
    return metric_of(load_competition(config.competition).metric_spec(classes))


def form_by(entry: Entry, competition: str | None = None) -> SubmissionForm | None:
    """Return the form of a submission's experiment, or else of the competition.

    None is that of the heartbeats, with any number of classes.
    """
    if report := _report_by(entry):
        return report.own_form
    return known_form(DataConfig(competition=competition or DEFAULT))


def _report_by(entry: Entry) -> Report | None:
    """Return the report of the experiment that made a submission, or an earlier state of it."""
    made_by = EDITED.search(entry.recipe) if entry.source == BY_HAND else None
    source = made_by[1] if made_by else entry.source
    path = ROOT / source / "report.json"
    return read_report(path) if Path(source).name == source and path.exists() else None


def _predicted(entry: Entry) -> Path | None:
    """Return the file that `predict` was given, which the end of its recipe names."""
    source = entry.recipe.rpartition(" on ")[2]
    is_own = source in ("its test", "bundled test") or not entry.recipe.startswith("predict ")
    return None if is_own else Path(source)
