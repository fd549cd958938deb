"""The test file that a submission answers, found through the ledger and the experiment's report."""

from dataclasses import dataclass
from pathlib import Path

from hbcomp.competitions.competition import load_competition, metric_of
from hbcomp.competitions.load import read_rows, with_files
from hbcomp.competitions.submission_form import SubmissionForm
from hbcomp.data.dataset import DataConfig
from hbcomp.data.reader import read_dataset
from hbcomp.data.sample import TEST
from hbcomp.experiment import ROOT
from hbcomp.experiment.report import read_report
from hbcomp.scoring.metrics import Metric
from hbcomp.submissions.ledger import BY_HAND, Entries, Entry, find, sha256_of
from hbcomp.submissions.submit import ExpectedIds
from hbcomp.system.config import validate
from hbcomp.system.errors import InputError

SAMPLE = "the bundled test rows"


@dataclass(frozen=True)
class FileOptions:
    """The options of a command that name the test file and its columns; None where not given."""

    test: Path | None = None
    id_column: str | None = None
    signal_column: str | None = None


def answered_by(path: Path, entries: Entries, options: FileOptions) -> ExpectedIds | None:
    """Return the test rows that were named, or else those that the experiment answered.

    None where no test file is named and no experiment is here that wrote the file or, for one
    that was edited, the file of its name.
    """
    origin = _origin(path, entries)
    config, written_for, form = origin or (DataConfig(), None, None)
    columns = {"id_column": options.id_column, "signal_column": options.signal_column}
    given = {name: value for name, value in columns.items() if value is not None}
    if options.test is not None:
        return _read(options.test, config.model_copy(update=given), form)
    if origin is None:
        return None
    files = with_files(config)
    if files.train is None and written_for is None:
        return sample()
    test = written_for or files.test
    if test is not None and not test.exists():
        raise InputError(
            f"{test}: no such file, but {path} was written for it; name the test file with --test"
        )
    return None if test is None else _read(test, config.model_copy(update=given), form)


def sample() -> ExpectedIds:
    """Return the bundled test rows."""
    config = DataConfig()
    return ExpectedIds(read_dataset(TEST, config, labelled=False).ids, "id", SAMPLE)


def _read(test: Path, config: DataConfig, form: SubmissionForm | None) -> ExpectedIds:
    rows = read_rows(test, config, labelled=False)
    return ExpectedIds(rows.ids, config.id_column or "id", str(test), form)


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
            return config, _predicted(entry), form_by(entry.source)
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


def metric_by(entry: Entry) -> Metric:
    """Return the metric of the experiment that made a submission, or that of the heartbeats."""
    path = ROOT / entry.source / "report.json"
    if Path(entry.source).name == entry.source and path.exists():
        return metric_of(read_report(path).metric)
    return metric_of(load_competition().metric_spec(("0", "1", "2", "3")))


def form_by(source: str) -> SubmissionForm | None:
    """Return the form of an experiment's submissions, or None for those of the heartbeats."""
    path = ROOT / source / "report.json"
    return read_report(path).own_form if path.exists() else None


def _predicted(entry: Entry) -> Path | None:
    """Return the file that `predict` was given, which the end of its recipe names."""
    source = entry.recipe.rpartition(" on ")[2]
    is_own = source in ("its test", "bundled test") or not entry.recipe.startswith("predict ")
    return None if is_own else Path(source)
