import threading

import pytest

from estimators.files import locked, replace_file
from estimators.onnx import save


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "file"
    replace_file(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        replace_file(path, fail)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


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
