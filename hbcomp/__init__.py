"""hbcomp: a competition toolkit for one-dimensional signals.

What a notebook imports is loaded when it is asked for: `import hbcomp` takes no time.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hbcomp.api.blend import blend
    from hbcomp.api.classifier import SignalClassifier
    from hbcomp.api.cross_validate import cross_validate
    from hbcomp.api.result import Result
    from hbcomp.crossval.loop import FoldDone
    from hbcomp.serving.model import Model, load
    from hbcomp.system.errors import InputError

__version__ = "0.1.0"
__all__ = [
    "FoldDone",
    "InputError",
    "Model",
    "Result",
    "SignalClassifier",
    "__version__",
    "blend",
    "cross_validate",
    "load",
]

_MODULE_OF = {
    "FoldDone": "hbcomp.crossval.loop",
    "InputError": "hbcomp.system.errors",
    "Model": "hbcomp.serving.model",
    "Result": "hbcomp.api.result",
    "SignalClassifier": "hbcomp.api.classifier",
    "blend": "hbcomp.api.blend",
    "cross_validate": "hbcomp.api.cross_validate",
    "load": "hbcomp.serving.model",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'hbcomp' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The package, whose function `blend` stays when the command hbcomp/blend.py is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _MODULE_OF:
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
