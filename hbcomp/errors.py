"""What the user did wrong, said in one sentence: every command prints it and exits with 2."""

from collections.abc import Sequence

MAX_SHOWN = 8


class InputError(ValueError):
    """Wrong input, found at the door: the message states the rule and what came instead.

    A command prints it as one line and exits with code 2; any other exception is a bug of
    hbcomp and keeps its traceback.
    """

    @classmethod
    def of(cls, subject: object, problems: Sequence[str], *, n_more: int = 0) -> "InputError":
        """Return one error about `subject` (a file; or nothing, "") that names every problem.

        At most `MAX_SHOWN` problems are spelled out; the rest, and `n_more` that were counted
        without being described, appear as a number.
        """
        shown = list(problems[:MAX_SHOWN])
        n_hidden = len(problems) - len(shown) + n_more
        if n_hidden:
            shown.append(f"and {n_hidden} more")
        return cls(f"{subject}: " * bool(str(subject)) + "; ".join(shown))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on whatever device."""
    if isinstance(error, MemoryError):
        return True
    # What torch says of a CPU, CUDA or an Apple GPU, and of a size beyond every number; and what
    # Python says where no thread can be had.
    texts = (
        *("can't allocate memory", "not enough memory", "out of memory", "invalid buffer size"),
        *("cublas_status_alloc_failed", "storage size calculation overflowed"),
        "can't start new thread",
    )
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in texts)
