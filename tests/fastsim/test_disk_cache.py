"""Compiled kernels on disk."""

import errno
from pathlib import Path

import pytest

from fastsim.kernel import disk_cache, jit

pytestmark = pytest.mark.skipif(jit.DISABLED, reason="nothing is compiled")

SIGNATURE = "int64(int64)"


def thrice(x):
    return 3 * x


def square(x):
    return x * x


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(jit, "cache_directory", lambda: tmp_path)
    return tmp_path


def loaded(function) -> bool:
    """Whether a function that works comes from the disk."""
    kernel = jit.jit(SIGNATURE)(function)
    assert kernel(7) == function(7)
    return bool(sum(kernel.stats.cache_hits.values()))


def test_what_was_compiled_is_loaded(directory: Path):
    assert [loaded(thrice), loaded(thrice), loaded(square), loaded(square)] == [False, True, False, True]
    assert sorted(path.name.partition("-")[0] for path in directory.iterdir()) == [
        f"{__name__}.square",
        f"{__name__}.thrice",
    ]


def test_a_function_that_was_edited_is_compiled():
    assert not loaded(thrice)
    edited = type(thrice)((lambda x: 4 * x).__code__, globals(), "thrice")
    assert not loaded(edited)


@pytest.mark.parametrize("damage", [b"", b"damaged", "cut", "flipped"])
def test_a_damaged_file_is_never_used(directory: Path, damage: bytes | str):
    loaded(thrice)
    (path,) = directory.iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes({"cut": whole[:-1], "flipped": flipped}.get(damage, damage))
    with pytest.warns(UserWarning, match="is damaged; it is compiled again"):
        assert not loaded(thrice)
    assert loaded(thrice)


def test_where_nothing_can_be_written_kernels_are_read_and_compiled(directory: Path, monkeypatch: pytest.MonkeyPatch):
    loaded(thrice)

    def refuse(path, write):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(disk_cache, "replace_file", refuse)
    assert loaded(thrice)
    with pytest.warns(disk_cache.KernelsNotKeptWarning, match=f"since {directory} cannot be written") as told:
        assert [loaded(square), loaded(square)] == [False, False]
    assert len(told) == 1
