"""Shapes and types of the first calls in every test are checked, and not those of long loops."""

from collections.abc import Callable
from functools import cache
from typing import Any

from beartype import beartype
from jaxtyping import config

# A loop of thousands of calls, as of a bootstrap or of Hypothesis, shows a wrong shape in its first
# ones; all the checks of all loops took half of the time of the tests.
MAX_CALLS = 300
_n_calls = 0


def check_anew() -> None:
    """Check calls again, as a test begins."""
    global _n_calls
    _n_calls = 0
    config.update("jaxtyping_disable", False)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with its annotations checked, as jaxtyping wants a checker."""
    # Made by the first call: most functions are never called, and making one takes a millisecond.
    make = cache(lambda: beartype(function))

    def call(*args: Any, **kwargs: Any) -> Any:
        global _n_calls
        _n_calls += 1
        if _n_calls > MAX_CALLS:
            config.update("jaxtyping_disable", True)
        return make()(*args, **kwargs)

    return call
