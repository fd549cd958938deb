"""From the words of a command to a checked configuration and the folder it runs in."""

from collections.abc import Sequence

from hbcomp.config import override, read_toml, to_toml, validate
from hbcomp.errors import InputError
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder, find_run, known_runs
from hbcomp.files import write_text


def prepare(
    experiment: str, assignments: Sequence[str], name: str | None
) -> tuple[Config, RunFolder]:
    """Return the configuration of `experiment`, changed by `assignments`, and its run's folder.

    With `name` the run gets a folder of its own. Nothing is written.
    """
    source = find_run(experiment)
    config = _read(source, assignments)
    return config, source if name is None else find_run(name)


def state_config(config: Config, run: RunFolder, *, force: bool) -> None:
    """Make the config.toml of a newly named run state its configuration.

    One that states another is refused, unless `force` is set. Both are compared as values, so a
    file that was edited by hand without changing them keeps its comments.
    """
    if run.config_file.exists():
        if validate(Config, read_toml(run.config_file), run.config_file) == config:
            return
        if not force:
            raise InputError(
                f"{run.config_file} already states another configuration; "
                "choose another --name, or replace it with --force"
            )
    write_text(run.config_file, to_toml(config))


def _read(source: RunFolder, assignments: Sequence[str]) -> Config:
    # The quickstart is the configuration with every default, so it needs no file.
    is_default = source.name == "quickstart" and not source.config_file.exists()
    if not is_default and not source.config_file.exists():
        known = ", ".join(known_runs()) or "none here"
        raise InputError(
            f"{source.config_file}: no such experiment (there are: {known}); "
            "start one from another with `cv OTHER --name NEW`"
        )
    values = {} if is_default else read_toml(source.config_file)
    return validate(Config, override(values, assignments), source.config_file)
