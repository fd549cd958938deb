"""Which experiments come with the package: beside them a clone may hold a user's own."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKED = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]


def packed(file: str) -> list[str]:
    """Return the names of the experiments of which the wheel holds that file."""
    return sorted(Path(path).parent.name for path in PACKED if path.endswith(f"/{file}"))
