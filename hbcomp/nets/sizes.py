"""The types of the numbers that configure nets."""

from typing import Annotated

from pydantic import AfterValidator, Field


def _check_odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError(f"a kernel must be odd, to keep the length, but got {kernel}")
    return kernel


Size = Annotated[int, Field(ge=1)]
Sizes = Annotated[tuple[Size, ...], Field(min_length=1)]
Kernel = Annotated[Size, AfterValidator(_check_odd)]
Kernels = Annotated[tuple[Kernel, ...], Field(min_length=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
