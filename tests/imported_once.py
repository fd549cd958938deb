"""What the server of commands imports and makes once, for all commands of the tests."""

from importlib import import_module

from hbcomp.__main__ import commands
from hbcomp.reporting.pages import render_page

commands()  # which imports a module for each
render_page("", "", [])  # which compiles the template
for name in (
    "hbcomp.crossval.cross_validate",
    "hbcomp.crossval.predict",
    "hbcomp.analysis.describe_data",
    "hbcomp.tuning.thresholds",
    "hbcomp.tuning.tune_experiment",
    "hbcomp.blending.blend_runs",
    "hbcomp.blending.plan",
    "hbcomp.analysis.compare_runs",
    "hbcomp.analysis.find_mistakes",
    "hbcomp.blending.import_probs",
    "hbcomp.submissions.submit",
    "hbcomp.verification.verify_runs",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "scipy.optimize",
    "torch._dynamo",  # the first training step imports it
    "pyarrow.parquet",
    "pyarrow.pandas_compat",
    # What the first study in a database imports, and the importance of its parameters.
    "alembic.command",
    "optuna.storages._rdb.models",
    "sqlalchemy.dialects.sqlite",
    "optuna.importance",
    "sklearn.ensemble",
    # What help and tables on a terminal import.
    "rich.markdown",
    "rich._emoji_codes",
    "pygments.lexers",
):
    import_module(name)
