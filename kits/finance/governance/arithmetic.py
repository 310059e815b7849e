"""Linear algebra that gives the same bits again, however many threads it could have.

A sum of products depends in its last bits on how it is divided among threads, and a maximum
of the likelihood makes more of that: GARCH figures of one table differed by 5e-7 of their
value between one thread and two. An assessment therefore computes on one thread of the linear
algebra library, and its record names that library and the processor that it was made for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from common.request import check_wanted

__all__ = ["arithmetic_library", "repeatable_arithmetic"]

_LOOK_S = 0.1  # between looks whether the request is still wanted

_turn = threading.RLock()


@contextmanager
def repeatable_arithmetic() -> Iterator[None]:
    """Limits the linear algebra library of the whole process to one thread for a while.

    Threads of one process take turns: the one that leaves first would give the library its
    threads back while another still computes.

    Raises:
        DeadlineError: The request is no longer wanted.
    """
    import scipy.linalg  # noqa: F401  # a library that is loaded later is not limited
    from threadpoolctl import threadpool_limits

    while not _turn.acquire(timeout=_LOOK_S):
        check_wanted()
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        _turn.release()


def arithmetic_library() -> str:
    """Returns the linear algebra libraries that are in use, with the processor's kind."""
    import scipy.linalg  # noqa: F401  # as above
    from threadpoolctl import threadpool_info

    found = {
        f"{one['internal_api']} {one.get('version')} {one.get('architecture', '')}".strip()
        for one in threadpool_info()
        if one["user_api"] == "blas"
    }
    return ", ".join(sorted(found)) or "none known"
