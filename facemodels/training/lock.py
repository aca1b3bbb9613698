"""One run a folder: a lock that ends with the process, so that a killed run leaves none behind."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facemodels.core.errors import InputError, advice, one_line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment] # see above


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the folder of a run; it is made if it does not exist.

    Where folders cannot be locked, as on NFS and on Windows, nothing is held.

    Raises:
        InputError: Another run holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        more = "; give another one with --set output=DIR" if isinstance(error, OSError) and advice(error) else ""
        raise InputError(f"{folder}: the folder of the run cannot be made ({one_line(error)}){more}") from error
    if fcntl is None:
        yield
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{folder}: the folder of the run cannot be read ({error.strerror})") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder}: another run is training in this folder; wait for it, or give another one with "
                "--set output=DIR"
            ) from None
        except OSError:
            pass  # no locks here
        yield
    finally:
        os.close(handle)
