"""The way from a command's arguments to a checked configuration and its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hbcomp
from hbcomp.data.dataset import DataConfig
from hbcomp.experiment import ROOT
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder, find_run
from hbcomp.experiment.report import Kind, read_report
from hbcomp.experiment.resume import read_run
from hbcomp.system.command import console
from hbcomp.system.config import Values, override, read_toml, to_toml, validate
from hbcomp.system.errors import InputError, closest, did_you_mean, there_are
from hbcomp.system.files import write_text

PACKAGE = Path(hbcomp.__file__).parent
PRESETS = (PACKAGE / "presets", PACKAGE.parent / "experiments")  # of a wheel, and of a clone


@dataclass(frozen=True)
class Request:
    """What a command is to run: the configuration, the folder, and the text of its config.toml.

    `config_text` is None where the folder's own config.toml was read, which then stays as it is.
    `space` is the search space that a new experiment takes over from the one it was made of.
    """

    config: Config
    run: RunFolder
    config_text: str | None
    space: Path | None = None


def prepare(experiment: str, assignments: Sequence[str], name: str | None) -> Request:
    """Return what is to run: `experiment`, changed by `assignments`; nothing is written.

    With `name` the run gets a folder of its own. A preset that has no folder here gets one. Where
    no train file is named, the files are those that the experiment began with.
    """
    source = find_run(experiment)
    file = _config_file(source)
    config = _config(source, file, assignments)
    if name is not None:
        is_same_kind = _net_kind(config) == _net_kind(validate(Config, read_toml(file), file))
        space = find_file(source, "space.toml") if is_same_kind else None
        return Request(config, find_run(name), to_toml(config), space)
    is_own = file == source.config_file
    return Request(config, source, None if is_own else file.read_text(encoding="utf-8"))


def _config(source: RunFolder, file: Path, assignments: Sequence[str]) -> Config:
    """Return the changed configuration; an error names the file only if the fault is in there."""
    values = read_toml(file)
    changed = _with_known_files(source, override(values, _of_own_epochs(assignments)))
    try:
        return validate(Config, changed, "options" if assignments else file)
    except InputError:
        validate(Config, values, file)
        raise


def _of_own_epochs(assignments: Sequence[str]) -> Sequence[str]:
    """Return the assignments; whoever sets the epochs gets them, and not the steps of a preset."""
    keys = {each.partition("=")[0].strip() for each in assignments}
    has_own = "train.n_epochs" in keys and "train.min_steps" not in keys
    return [*assignments, "train.min_steps=0"] if has_own else assignments


def write_config(request: Request, *, force: bool) -> None:
    """Write the config.toml of a new run.

    An existing one with other values is an InputError unless `force` is set. One with the same
    values stays, and keeps the comments of who edited it.
    """
    path = request.run.config_file
    check_kind(request.run)
    if request.config_text is None:
        return
    if path.exists():
        if validate(Config, read_toml(path), path) == request.config:
            return
        if not force:
            raise InputError(
                f"{path} already holds another configuration; "
                "choose another --name, or replace it with --force"
            )
    request.run.discard_manifest()
    own_space = request.run.path / "space.toml"
    if request.space and not own_space.exists():
        write_text(own_space, request.space.read_text(encoding="utf-8"))
    write_text(path, request.config_text)


def check_kind(run: RunFolder) -> None:
    """Refuse to train in the folder of a blend or of an import."""
    kind = _kind(run)
    if kind != "run":
        raise InputError(f"{run.path} holds a {kind} experiment; choose another --name")


def _kind(run: RunFolder) -> Kind:
    if run.recipe_file.exists():
        return "blend"
    return read_report(run.report_file).kind if run.report_file.exists() else "run"


def find_file(run: RunFolder, file: str) -> Path | None:
    """Return a file of an experiment: from its own folder, or else of the preset of its name."""
    known = (run.path / file, *(place / run.name / file for place in PRESETS))
    return next((path for path in known if path.exists()), None)


def like(name: str, file: str) -> str:
    """Return a hint which experiment with such a file was meant, or else all that there are."""
    known = names_with(file)
    return did_you_mean(closest(name, known)) or there_are(known)


def names_with(file: str) -> list[str]:
    """Return the names of the experiments here and of the presets that have such a file."""
    return sorted(
        {path.parent.name for place in (ROOT, *PRESETS) for path in place.glob(f"*/{file}")}
    )


def space_file(request: Request, named: str | None) -> Path:
    """Return the file of the search space for an experiment.

    `named` is a file, or an experiment that has a space. Left open, it is the experiment's own
    space, or else that of the preset of its kind of net.
    """
    if named and (Path(named).exists() or Path(named).name.endswith(".toml")):
        return Path(named)
    kind = _net_kind(request.config)
    for run in [find_run(named)] if named else [request.run, find_run(kind)]:
        if path := find_file(run, "space.toml"):
            return path
    known = ", ".join(names_with("space.toml"))
    missing = f"--space {named}" if named else f"{request.run.path / 'space.toml'}"
    raise InputError(
        f"{missing}: no such file, and no experiment {named or kind} has a search space (those "
        f"that have one: {known}); name a file or one of them with --space"
    )


def _net_kind(config: Config) -> str:
    """Return what decides which keys can be searched: features of a fold, or else the net."""
    return config.features.name if config.features.is_of_fold else config.net.name


def _with_known_files(run: RunFolder, values: Values) -> Values:
    """Return a configuration that names no data with the data that the run began with."""
    named, record = values.get("data", {}), read_run(run)
    if not record or not isinstance(named, dict) or "competition" in named:
        return values
    known = validate(DataConfig, record.data, run.run_file).model_dump(
        mode="json", exclude_defaults=True
    )
    if "train" in named:
        known = {key: value for key, value in known.items() if key == "competition"}
    if not {"train", "competition"} & known.keys():
        return values
    data = {**known, **named}
    on = ", ".join(str(data[key]) for key in ("competition", "train", "test") if key in data)
    console.print(f"{run.name}: on {on}, as this run began")
    return {**values, "data": data}


def _config_file(source: RunFolder) -> Path:
    if path := find_file(source, "config.toml"):
        return path
    kind = _kind(source)
    if kind != "run":
        raise InputError(
            f"{source.path} holds a {kind} experiment, which has no configuration of its own; name "
            "an experiment that `hbcomp cv` trained"
        )
    if find_file(source, "plan.toml"):
        raise InputError(
            f"{source.name} is a plan; `hbcomp compete {source.name}` trains its experiments"
        )
    raise InputError(
        f"{source.config_file}: no such experiment{like(source.name, 'config.toml')}; "
        "start one from another with `cv OTHER --name NEW`"
    )
