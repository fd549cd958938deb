"""From the words of a command to a checked configuration and the folder it runs in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hbcomp
from hbcomp.config import override, read_toml, to_toml, validate
from hbcomp.errors import InputError, closest, did_you_mean, there_are
from hbcomp.experiment.config import Config
from hbcomp.experiment.finished import Kind, read_report
from hbcomp.experiment.folder import RunFolder, find_run, known_runs
from hbcomp.files import write_text

PACKAGE = Path(hbcomp.__file__).parent
# The presets: inside an installed package, beside it in a clone.
INSTALLED, BESIDE = PACKAGE / "presets", PACKAGE.parent / "experiments"


@dataclass(frozen=True)
class Asked:
    """What a command asked for: the configuration, the folder, and what its config.toml must say.

    `statement` is None where the folder's own config.toml was read, which then stays as it is.
    """

    config: Config
    run: RunFolder
    statement: str | None


def prepare(experiment: str, assignments: Sequence[str], name: str | None) -> Asked:
    """Return what `experiment`, changed by `assignments`, asks for; nothing is written.

    With `name` the run gets a folder of its own. A preset that has no folder here gets one.
    """
    source = find_run(experiment)
    file = _config_file(source)
    config = _config(file, assignments)
    if name is not None:
        return Asked(config, find_run(name), to_toml(config))
    is_own = file == source.config_file
    return Asked(config, source, None if is_own else file.read_text(encoding="utf-8"))


def _config(file: Path, assignments: Sequence[str]) -> Config:
    """Return the changed configuration; an error names the file only if the fault is in there."""
    values = read_toml(file)
    if assignments:
        changed = override(values, assignments)
        try:
            return validate(Config, changed, "--set")
        except InputError:
            validate(Config, values, file)
            raise
    return validate(Config, values, file)


def state_config(asked: Asked, *, force: bool) -> None:
    """Make the config.toml of a new run say what was asked.

    One that says something else is refused, unless `force` is set. Values are compared, so a file
    that was edited by hand without changing them keeps its comments.
    """
    path = asked.run.config_file
    check_kind(asked.run)
    if asked.statement is None:
        return
    if path.exists():
        if validate(Config, read_toml(path), path) == asked.config:
            return
        if not force:
            raise InputError(
                f"{path} already states another configuration; "
                "choose another --name, or replace it with --force"
            )
    asked.run.discard_manifest()
    write_text(path, asked.statement)


def check_kind(run: RunFolder) -> None:
    """Refuse to train in the folder of a blend or of an imported member."""
    kind = _kind(run)
    if kind != "run":
        raise InputError(f"{run.path} holds a {kind} experiment; choose another --name")


def _kind(run: RunFolder) -> Kind:
    if run.recipe_file.exists():
        return "blend"
    return read_report(run.report_file).kind if run.report_file.exists() else "run"


def space_file(run: RunFolder) -> Path:
    """Return the search space beside an experiment, or that of the preset of its name."""
    name = run.name
    known = (
        run.path / "space.toml",
        INSTALLED / "spaces" / f"{name}.toml",
        BESIDE / name / "space.toml",
    )
    for path in known:
        if path.exists():
            return path
    raise InputError(f"{known[0]}: no such file; name a search space with --space FILE")


def _config_file(source: RunFolder) -> Path:
    name = source.name
    for path in (source.config_file, INSTALLED / f"{name}.toml", BESIDE / name / "config.toml"):
        if path.exists():
            return path
    kind = _kind(source)
    if kind != "run":
        raise InputError(
            f"{source.path} holds a {kind} experiment, which has no configuration of its own; name "
            "an experiment that `hbcomp cv` trained"
        )
    plans = (
        source.path / "plan.toml",
        INSTALLED / "plans" / f"{name}.toml",
        BESIDE / name / "plan.toml",
    )
    if any(path.exists() for path in plans):
        raise InputError(f"{name} is a plan; `hbcomp compete {name}` trains its experiments")
    presets = {path.stem for path in INSTALLED.glob("*.toml")}
    presets |= {path.parent.name for path in BESIDE.glob("*/config.toml")}
    known = sorted({*known_runs(), *presets})
    hint = did_you_mean(closest(name, known)) or there_are(known)
    raise InputError(
        f"{source.config_file}: no such experiment{hint}; "
        "start one from another with `cv OTHER --name NEW`"
    )
