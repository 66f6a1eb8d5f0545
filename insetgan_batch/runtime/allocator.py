"""What a process on a CPU does with memory that large tensors leave."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGER_THAN_ANY = 1 << 30


def keep_freed_memory() -> None:
    """Let glibc keep it for the next ones; nothing happens with another C library.

    By default every tensor above 32 MB is mapped anew, and its pages are zeroed one by one when
    they are first touched.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGER_THAN_ANY)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
