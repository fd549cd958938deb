"""From the words of a command to a checked configuration and the folder it runs in."""

from collections.abc import Sequence

from hbcomp.config import override, read_toml, to_toml, validate
from hbcomp.errors import InputError
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder, find_run, known_runs
from hbcomp.files import write_text


def prepare(
    experiment: str, assignments: Sequence[str], name: str | None, *, force: bool = False
) -> tuple[Config, RunFolder]:
    """Return the configuration of `experiment`, changed by `assignments`, and its run's folder.

    With `name` the run gets a folder of its own, whose config.toml states the changed
    configuration; one that states another is refused unless `force` is set.
    """
    source = find_run(experiment)
    config = _read(source, assignments)
    if name is None:
        return config, source
    target = find_run(name)
    text = to_toml(config)
    if target.config_file.exists():
        stated = validate(Config, read_toml(target.config_file), target.config_file)
        if stated != config and not force:
            raise InputError(
                f"{target.config_file} already states another configuration; "
                "choose another --name, or replace it with --force"
            )
    write_text(target.config_file, text)
    return config, target


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
