"""Trained estimators as ONNX files: export with provenance, and load.

The files are compressed. So that they compress well, the trees of all members become one ensemble, with a target for
each member, whose nodes are numbered level by level: 6 bytes for each leaf instead of 15, and one pass instead of five.
"""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators.bounded import parsed_json
from estimators.ensemble import joined
from estimators.errors import EstimatorError
from estimators.files import replace_file
from estimators.onnx_checks import check_model

if TYPE_CHECKING:
    from sklearn.base import RegressorMixin

SUFFIX = ".onnx.xz"
MAX_MODEL_BYTES = 256 << 20
"""Largest file of an estimator, and largest model in it; the package's own are of 3 MB."""
_INPUT = "features"
_OPSETS = {"": 17, "ai.onnx.ml": 3}  # the oldest that hold a forest: any onnxruntime reads them
# Numbers of 2 to 5 bytes follow each other, so nothing is aligned.
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}]


def export(regressor: RegressorMixin, features: int, metadata: Mapping[str, object]) -> bytes:
    """Serialise a trained estimator.

    Args:
        regressor: a fitted scikit-learn regressor with one target for each member.
        features: number of input features.
        metadata: provenance, kept in the model's metadata properties as one JSON text for each key.

    Returns:
        An ONNX model with the float32 input ``features`` of shape (rows, features) and an output of shape
        (rows, members); the same bytes for the same estimator.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    shape = [(_INPUT, FloatTensorType([None, features]))]
    model = convert_sklearn(regressor, name="fastsim_estimator", initial_types=shape, target_opset=_OPSETS)
    joined(model.graph)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def compressed(model: bytes) -> bytes:
    """The content of a file that holds a model."""
    return lzma.compress(model, format=lzma.FORMAT_XZ, filters=_FILTERS)


def save(path: Path, model: bytes) -> None:
    """Write a model, compressed, in one step: a reader sees the old file or the new one."""
    content = compressed(model)
    replace_file(path, lambda file: file.write(content))


def _unpacked(content: bytes) -> bytes:
    """The model in a file's bytes, of at most ``MAX_MODEL_BYTES``."""
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_MODEL_BYTES)
    model = unpacker.decompress(content, MAX_MODEL_BYTES)
    if not unpacker.eof or unpacker.unused_data:
        raise EOFError("it is cut short, or larger than is read")
    return model


class Model:
    """A loaded estimator.

    Attributes:
        features: number of input features.
        metadata: what ``export`` was given.
    """

    def __init__(self, content: bytes, path: Path, trusted: bool = False) -> None:
        """Load a model.

        Args:
            content: the compressed file's bytes.
            path: where they came from, for the error.
            trusted: whether the file is of the package itself, and need not be checked as those of strangers.

        Raises:
            EstimatorError: when the file is damaged or is no model of ours.
        """
        # Version 1.32 keeps an identifier in the user's cache, for telemetry that nobody has asked for.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        wrong = "is damaged or is not an estimator of fastsim"
        mend = "reinstall the package or run fastsim estimators train"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            model = _unpacked(content)
            if not trusted:
                check_model(model)
        except (EOFError, ValueError, lzma.LZMAError) as error:
            raise EstimatorError("estimator", str(path), wrong, mend) from error
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            self.features = int(self._session.get_inputs()[0].shape[1])
            entries = self._session.get_modelmeta().custom_metadata_map.items()
            self.metadata: dict[str, Any] = {key: parsed_json(value) for key, value in entries}
        except Exception as error:  # onnxruntime's errors share no base class
            raise EstimatorError("estimator", str(path), wrong, mend) from error

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Evaluate the members on float32 features of shape (rows, features); shape (rows, members)."""
        (result,) = self._session.run(None, {_INPUT: features})
        return np.asarray(result)
