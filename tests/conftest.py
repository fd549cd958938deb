"""What every test gets: checked shapes and types, and a cache folder of its own."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from checked_calls import check_anew
from jaxtyping import install_import_hook

# One thread a process, before torch is imported: tests run beside each other, and two threads of
# a tiny net wait for a core ten times longer than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Before the first import of hbcomp: from here on calls check their annotations. A second run of the
# same tests can do without.
if not os.environ.get("HBCOMP_TEST_UNTYPED"):
    install_import_hook(["hbcomp", "bench"], "checked_calls.checked")


# A test beside others may take long for reasons of its own; none is gated on seconds. The same
# examples every time, so that a red test is about the change that it follows.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the mode that kills, breaks and garbles for as long as it takes to believe it."""
    parser.addoption(
        "--long", action="store_true", help="crash and fuzz tests at full length, not a sample"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the tests marked `long` unless that mode was asked for."""
    if not config.getoption("long"):
        for item in items:
            if marker := item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason=f"only with --long: {marker.args[0]}"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Check the first calls of every test."""
    check_anew()


@pytest.fixture(scope="session")
def is_long(pytestconfig: pytest.Config) -> bool:
    """Return whether `--long` was asked for."""
    return bool(pytestconfig.getoption("long"))


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the cache folder of this test, empty at its start."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HBCOMP_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _process_as_it_was() -> Iterator[None]:
    """Take back what training sets for its process: tests need every float, and one thread."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)
        torch.set_num_threads(1)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no figure be drawn: every picture is one pixel."""
    from commands import draw_nothing

    draw_nothing(monkeypatch.setattr)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None) -> Path:
    """Return the working directory of a notebook: nothing is drawn, blends are searched less."""
    from commands import few_trials

    from hbcomp.blending import methods

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(methods, "N_TRIALS", methods.N_TRIALS)  # so that it is put back
    few_trials()
    return tmp_path
