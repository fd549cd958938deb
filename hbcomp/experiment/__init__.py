"""An experiment: what was asked (`config`) and the folder that holds what came out (`folder`)."""

from pathlib import Path

ROOT = Path("experiments")  # of the working directory; here, because `folder` imports torch
