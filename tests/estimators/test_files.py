import pytest

from estimators.files import replace_file
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
