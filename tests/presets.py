"""Which experiments come with the package: beside them a clone may hold a user's own."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def presets(file: str) -> list[str]:
    """Return the names of the presets that have that file: git knows a user's own from them."""
    found = [path.relative_to(ROOT).as_posix() for path in ROOT.glob(f"experiments/*/{file}")]
    listed = subprocess.run(
        ["git", "ls-files", *found], cwd=ROOT, capture_output=True, text=True, check=False
    )
    known = listed.stdout.split() if listed.returncode == 0 else found  # an archive has no git
    return sorted(Path(path).parent.name for path in known)
