"""The exit codes of all commands, and which errors have which.

0    done
1    a bug of hbcomp, with its traceback
2    wrong input, or a disk or machine that the user must mend
130  stopped with Ctrl-C
143  stopped by SIGTERM

After 2, 130 and 143 nothing half-written is left, and what was finished is kept.
"""

import errno
from pathlib import Path
from typing import Final

EXIT_WRONG_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130
EXIT_TERMINATED: Final = 143

# What is wrong with a path, a disk or a machine is for the user to mend, and no bug of ours.
USERS_TO_MEND: Final = {
    *(errno.EACCES, errno.EPERM, errno.EROFS),  # rights
    *(errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG),  # paths
    errno.ENOENT,  # such as a folder that was removed meanwhile, but no file of hbcomp itself
    *(errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC),  # disks
    *(errno.ENOLCK, errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT),  # network folders
    *(errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM),  # limits of the machine
}


class Terminated(KeyboardInterrupt):
    """SIGTERM came, which is treated as Ctrl-C except for the exit code."""


def exit_code_of(stop: BaseException | None) -> int:
    """Return the exit code of a command that was stopped."""
    return EXIT_TERMINATED if isinstance(stop, Terminated) else EXIT_INTERRUPTED


def is_users_to_mend(error: OSError) -> bool:
    """Return whether the user can mend what is wrong, rather than it being a bug of hbcomp."""
    is_ours = str(error.filename).startswith(str(Path(__file__).parents[1]))
    return error.errno in USERS_TO_MEND and not is_ours
