"""How much a store may hold: sizes as people write them, and what is said at the limit."""

import pytest
from removal import fill

from rlhfc.errors import UserError
from rlhfc.upkeep.quota import bytes_of, check_quota, write_quota


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", 500 * 10**6), ("1.5 TB", 1_500_000_000_000), ("2GiB", 2 << 30), ("7", 7), ("3k", 3000)],
)
def test_sizes(text, size):
    """Sizes are read in the units that people write."""
    assert size == bytes_of("--free", text)


def test_no_size():
    """What is no size is refused by the option's name."""
    with pytest.raises(UserError, match="`--free much` is no size"):
        bytes_of("--free", "much")


def test_quota(store, tmp_path):
    """A store at its limit refuses, one that will be exceeded warns, both with the remedy."""
    fill(store, tmp_path, {"files": {"f": "x" * 3_000_000}})
    assert check_quota(store.layout, 10**12) is None
    write_quota(store.layout, 10 * 10**6)
    assert check_quota(store.layout, 10**6) is None
    warning = check_quota(store.layout, 9 * 10**6)
    assert "of 10.0 MB, and about 9.0 MB will come: make room with `rlhfc gc --free 3MB`" in warning
    write_quota(store.layout, 10**6)
    with pytest.raises(UserError, match=r"is full: 3\.0 MB of 1\.0 MB"):
        check_quota(store.layout, 0)
    write_quota(store.layout, None)
    assert check_quota(store.layout, 10**12) is None
