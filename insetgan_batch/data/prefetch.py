"""Requests a few ahead of who consumes their answers: a store answers slowly, but many at once."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")


def in_order(calls: Iterable[Callable[[], _T]], threads: int, most: int) -> Iterator[_T]:
    """What the calls return, in their order; at most so many of them begun and not consumed."""
    waiting: collections.deque[Future[_T]] = collections.deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for call in calls:
                waiting.append(pool.submit(call))
                if len(waiting) == most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
