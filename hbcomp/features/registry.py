"""Features by name. A new kind is a file in this folder and a line here."""

from collections.abc import Mapping
from typing import Any

from hbcomp.features.base import FeatureConfig
from hbcomp.features.lines import LinesConfig
from hbcomp.features.samples import SamplesConfig
from hbcomp.system.errors import check_name

FEATURES: Mapping[str, type[FeatureConfig]] = {"samples": SamplesConfig, "lines": LinesConfig}


def config_class(name: Any) -> type[FeatureConfig]:
    """Return the configuration class of the features of that name."""
    return FEATURES[check_name("features.name", name, FEATURES)]
