import errno
import os
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import estimators.files
import traces.writing
from estimators.files import locked, replace_files
from estimators.onnx import save

WRITERS = {"estimators": estimators.files.replace_file, "traces": traces.writing.replace_file}


@pytest.fixture(params=WRITERS)
def replace_file(request):
    return WRITERS[request.param]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, replace_file):
    path = tmp_path / "file"
    replace_file(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        replace_file(path, fail)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_missing_directories_are_made(tmp_path):
    path = tmp_path / "new" / "directory" / "file"
    estimators.files.replace_file(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"


def test_a_link_stays_a_link(tmp_path, replace_file):
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"old")
    link.symlink_to(path)
    replace_file(link, lambda file: file.write(b"new"))
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert sorted(tmp_path.iterdir()) == [path, link]


def test_a_pipe_is_written_into(tmp_path, replace_file):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    replace_file(pipe, lambda file: file.write(b"new"))
    reader.join()
    assert read == [b"new"]
    assert list(tmp_path.iterdir()) == [pipe]


FULL = {
    "bytes": lambda file: file.write(bytes(1 << 16)),
    "array": lambda file: np.save(file, np.zeros(1 << 16)),
    "frame": pl.DataFrame({"x": np.random.default_rng(0).random(1 << 16)}).write_parquet,
}


@pytest.mark.parametrize("what", FULL)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_whoever_writes_the_error_is_that_of_the_system(what, replace_file):
    with pytest.raises(OSError, match="No space left on device") as caught:
        replace_file(Path("/dev/full"), FULL[what])
    assert caught.value.errno == errno.ENOSPC
    assert os.path.exists("/dev/full")


def test_the_error_names_the_file(tmp_path):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left on device") as caught:
        estimators.files.replace_file(tmp_path / "file", full)
    assert caught.value.filename == str(tmp_path / "file")


def test_of_files_that_belong_together_the_last_proves_the_others(tmp_path, monkeypatch):
    first, last, other = (tmp_path / name for name in ("first", "last", "other"))

    def write(content):
        files = {path: lambda file: file.write(content) for path in (first, last)}
        replace_files(files, [other])

    write(b"old")
    other.write_bytes(b"old")
    moved, seen = [], []
    replace = os.replace

    def watched(temporary, path):
        seen.append((last.exists(), other.exists()))
        replace(temporary, path)
        moved.append(path.name)

    monkeypatch.setattr(os, "replace", watched)
    write(b"new")
    assert moved == ["first", "last"]
    assert seen == [(False, False)] * 2
    assert first.read_bytes() == last.read_bytes() == b"new"


def test_of_files_that_belong_together_all_are_replaced_or_none(tmp_path):
    first, last, other = (tmp_path / name for name in ("first", "last", "other"))
    for path in (first, last, other):
        path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        replace_files({first: lambda file: file.write(b"new"), last: lambda file: file.write(b"half") / 0}, [other])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("first", "last", "other"), b"old"
    )


def test_a_model_that_cannot_take_its_place_leaves_nothing_behind(tmp_path):
    path = tmp_path / "gemm.onnx.gz"
    path.mkdir()
    with pytest.raises(OSError, match="gemm"):
        save(path, b"model")
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    path, order = tmp_path / "new" / "lock", []

    def wait():
        with locked(path):
            order.append("second")

    with locked(path):
        other = threading.Thread(target=wait)
        other.start()
        other.join(0.2)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def test_where_no_lock_can_be_kept_nobody_waits(tmp_path):
    (tmp_path / "file").write_text("")
    with locked(tmp_path / "file" / "lock"), locked(tmp_path / "file" / "lock"):
        pass
    with pytest.raises(OSError, match="of the caller"), locked(tmp_path / "lock"):
        raise OSError("of the caller")
