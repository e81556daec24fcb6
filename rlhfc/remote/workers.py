"""A few threads that move files; the first failure stops the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

AT_ONCE = 4  # files at a time
T = TypeVar("T")


def for_each(
    items: Iterable[T], work: Callable[[T], None], abandon: Callable[[], None] = lambda: None
) -> None:
    """Do the work for every item, a few at a time.

    Args:
        items: what to do it for.
        work: done in threads.
        abandon: called at the first failure, or when the user interrupts; tells running work to end early.

    Raises:
        Exception: the first that the work raised; what had not begun by then is left out.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        begun = [pool.submit(work, item) for item in items]
        try:
            for future in as_completed(begun):
                future.result()
        except BaseException:
            abandon()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
