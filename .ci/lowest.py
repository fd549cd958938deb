"""Print the lowest versions that pyproject.toml allows, as constraints for pip.

Of torch the highest: of older ones CI has no CPU build, and CUDA's libraries take gigabytes.
"""

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
for each in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
    name, version = re.fullmatch(r"([\w-]+)>=([\d.]+).*", each).groups()
    print("torch<2.14" if name == "torch" else f"{name}=={version}")
