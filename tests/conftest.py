"""What every test gets: checked shapes and types, and a cache folder of its own."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Before the first import of hbcomp: from here on each call checks its annotations.
install_import_hook("hbcomp", "beartype.beartype")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the cache folder of this test, empty at its start."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HBCOMP_CACHE", str(folder))
    return folder
