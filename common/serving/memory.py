"""Freed memory stays with the process: bodies of megabytes come and go with every request."""

from __future__ import annotations

__all__ = ["keep_freed_memory"]

_BLOCK_BYTES = 31 << 20  # below 32 MiB, above which glibc learns nothing (mallopt(3))


def keep_freed_memory() -> None:
    """Has glibc keep up to about 62 MiB of freed memory at the top of its heap; elsewhere nothing.

    It gives more than a threshold back to the system, and that follows twice the largest
    block that was freed (mallopt(3), "dynamic mmap threshold"). While the largest is a body
    of 3 MB, each further one may cost 1,500 page faults, which is 2 ms.
    """
    block = bytes(_BLOCK_BYTES)  # never touched, so it takes no memory
    del block
