"""`hbcomp.blend`: what `hbcomp blend` does, from results."""

from collections.abc import Sequence

import xxhash

from hbcomp.api.result import Result, read_result
from hbcomp.blending import blend_runs
from hbcomp.blending.selection import BlendOptions
from hbcomp.experiment.folder import find_run
from hbcomp.system.command import as_library
from hbcomp.system.errors import InputError


def blend(
    results: Sequence[Result | str],
    *,
    method: str = "auto",
    calibration: str = "auto",
    rule: str = "auto",
    run: str | None = None,
    force: bool = False,
) -> Result:
    """Combine finished experiments, results or their names, and return the result of the blend.

    All must be of the same rows and scored by the same metric. Left open, the method is the
    simplest that none beats by its cross-fitted score. The folder experiments/RUN keeps everything;
    without `run` the name is made of the names and the options.
    """
    names = [each if isinstance(each, str) else each.run for each in results]
    if not names:
        raise InputError("results must name at least one experiment, but there is none")
    options = BlendOptions(method=method, calibration=calibration, rule=rule)
    name = run or f"blend-{xxhash.xxh3_64_hexdigest(repr((names, options)).encode())[:8]}"
    with as_library(has_bars=False):
        blend_runs.run(names, name, options, force=force)
    classes = next((each.classes for each in results if isinstance(each, Result)), None)
    return read_result(find_run(name), classes)
