"""Trained estimators as ONNX files: export with provenance, and load.

The files are gzip-compressed: a forest's ONNX attributes repeat themselves (60 bytes for each leaf, 15 compressed), so
forests four times as large fit into the same package.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators.errors import EstimatorError
from estimators.files import replace_file

if TYPE_CHECKING:
    from sklearn.base import RegressorMixin

SUFFIX = ".onnx.gz"
_INPUT = "features"
_OPSETS = {"": 17, "ai.onnx.ml": 3}  # the oldest that hold a forest: any onnxruntime reads them
# Attributes of the forest that no runtime needs to evaluate it; a third of the file.
_DISPENSABLE = ("nodes_hitrates", "nodes_missing_value_tracks_true")


def export(forest: RegressorMixin, features: int, metadata: Mapping[str, object]) -> bytes:
    """Serialise a trained forest.

    Args:
        forest: a fitted scikit-learn forest.
        features: number of input features.
        metadata: provenance, kept in the model's metadata properties as one JSON text for each key.

    Returns:
        An ONNX model with the float32 input ``features`` of shape (rows, features); the same bytes for the same forest.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    shape = [(_INPUT, FloatTensorType([None, features]))]
    model = convert_sklearn(forest, name="fastsim_estimator", initial_types=shape, target_opset=_OPSETS)
    for node in model.graph.node:
        kept = [attribute for attribute in node.attribute if attribute.name not in _DISPENSABLE]
        del node.attribute[:]
        node.attribute.extend(kept)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def save(path: Path, model: bytes) -> None:
    """Write a model, compressed, in one step: a reader sees the old file or the new one."""
    compressed = gzip.compress(model, compresslevel=9, mtime=0)
    replace_file(path, lambda file: file.write(compressed))


class Forest:
    """A loaded estimator.

    Attributes:
        metadata: what ``export`` was given.
    """

    def __init__(self, content: bytes, path: Path) -> None:
        """Load a model.

        Args:
            content: the compressed file's bytes.
            path: where they came from, for the error.

        Raises:
            EstimatorError: when the file is damaged or is no model of ours.
        """
        import onnxruntime

        wrong = "is damaged or is not an estimator of fastsim"
        mend = "reinstall the package or run fastsim estimators train"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            model = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise EstimatorError("estimator", str(path), wrong, mend) from error
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            entries = self._session.get_modelmeta().custom_metadata_map.items()
            self.metadata: dict[str, Any] = {key: json.loads(value) for key, value in entries}
        except Exception as error:  # onnxruntime's errors share no base class
            raise EstimatorError("estimator", str(path), wrong, mend) from error

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Evaluate the forest on float32 features of shape (rows, features); shape (rows,)."""
        (result,) = self._session.run(None, {_INPUT: features})
        return np.asarray(result)[:, 0]
