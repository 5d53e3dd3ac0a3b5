"""Seconds of single operators on one device, from the trained forests of the zoo."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import members
from estimators.bounded import read_bounded
from estimators.errors import EstimatorError
from estimators.features import OPERATORS, SOURCE_FILES, Floats, Roofline, features_and_roofline, operators_of
from estimators.members import Calibration
from estimators.onnx import MAX_MODEL_BYTES, SUFFIX, Model
from estimators.regressors import MEMBERS

ZOO = Path(__file__).parent / "zoo"
_MOST_ROWS = 1 << 17  # evaluated at once, which bounds the memory of a prediction
_CODE = (*SOURCE_FILES, Path(members.__file__), Path(__file__))


class OperatorEstimators:
    """The estimators of one device and dtype.

    Attributes:
        hash: sha256 over the files and the code that computes their inputs. The same hash, the same predictions.
    """

    def __init__(self, contents: Mapping[str, bytes], paths: Mapping[str, Path]) -> None:
        """Keep the files' bytes by operator; ``load`` reads them."""
        self._contents = dict(contents)
        self._paths = dict(paths)
        self._models: dict[str, Model] = {}
        digest = hashlib.sha256()
        for source in _CODE:
            digest.update(source.read_bytes())
        for operator in sorted(contents):
            digest.update(f"{operator} {len(contents[operator])}\n".encode())
            digest.update(contents[operator])
        self.hash = digest.hexdigest()

    @classmethod
    def load(cls, device: str, dtype: str = "bf16", directory: Path | str | None = None) -> OperatorEstimators:
        """Find the estimators of a device; each is decoded when first asked.

        Args:
            device: name of the device, such as ``"h100_sxm"``.
            dtype: of a product's weights, of the KV cache, or of what is reduced.
            directory: a zoo to look in, as ``train`` writes it; the package's own when not given.

        Raises:
            EstimatorError: when that zoo has no such entry; the sentence lists those it has.
        """
        zoo = ZOO if directory is None else Path(directory)
        known = list_zoo(zoo)
        if (device, dtype) not in known:
            names = ", ".join(f"{name} {kind}" for name, kind in known) or "nothing"
            mend = f"choose one of {names}, or train one with fastsim estimators train"
            raise EstimatorError("device", f"{device} {dtype}", f"has no estimators in {zoo}", mend)
        return cls.read(entry_files(zoo, device, dtype))

    @classmethod
    def read(cls, paths: Mapping[str, Path]) -> OperatorEstimators:
        """Read the files of operators, whatever entries they are of; each is decoded when first asked.

        Raises:
            EstimatorError: when one cannot be read.
        """
        return cls({operator: _read(path) for operator, path in paths.items()}, paths)

    def predict(self, operator: str, columns: Mapping[str, ArrayLike], member: int = 0) -> Floats:
        """Predict the time of one call of an operator.

        Beyond the measured range of a column the ratio to the roofline is that at the range's edge.

        Args:
            operator: a key of ``features.OPERATORS`` that there is in this dtype.
            columns: that operator's columns, which are broadcast against each other. Head counts are per GPU.
            member: 0 for the estimate, or 1 to ``MEMBERS`` for one of as many equally likely alternatives, whose
                spread about the estimate is that of the errors on shapes not trained on.

        Returns:
            Seconds, float64, in the shape of the columns.

        Raises:
            EstimatorError: for an unknown operator or member, a missing or unknown column, or a value below the
                column's least.
        """
        if operator not in self._contents:
            self._refuse(operator)
        if member not in range(MEMBERS + 1):
            raise EstimatorError("member", member, "is not one of the members", f"give 0 to {MEMBERS}")
        values, shape = _checked(operator, columns)
        rows = next(iter(values.values())).size
        seconds = np.empty(rows)
        for start in range(0, rows, _MOST_ROWS):
            part = slice(start, start + _MOST_ROWS)
            inputs = {name: value[part] for name, value in values.items()}
            seconds[part] = self._seconds(operator, inputs, member)
        return seconds.reshape(shape)

    def _seconds(self, operator: str, columns: Mapping[str, Floats], member: int) -> Floats:
        model = self._model(operator)
        roofline = Roofline(**model.metadata["roofline"])
        inside = _inside(operator, columns, model.metadata["profiled"])
        seen, bound_s = features_and_roofline(operator, inside, roofline)
        if any(inside[name] is not columns[name] for name in columns):
            bound_s = features_and_roofline(operator, columns, roofline)[1]
        predicted = model.predict(seen).astype(np.float64)
        if member == 0:
            return np.asarray(np.exp(predicted.mean(axis=1)) * bound_s)
        apart = Calibration(**model.metadata["calibration"]).apart(operator, predicted)
        return np.asarray(np.exp(apart[:, member - 1]) * bound_s)

    def _refuse(self, operator: str) -> NoReturn:
        """Say that there is no such operator, or none in this entry of the zoo."""
        names = ", ".join(self._contents)
        if operator not in OPERATORS:
            raise EstimatorError("operator", operator, "is not known", f"choose one of {names}")
        entry = next(iter(self._paths.values())).parent.name
        mend = f"choose another dtype, since this one has {names} only, or train it with fastsim estimators train"
        raise EstimatorError("operator", operator, f"has no estimator in {entry}", mend)

    @property
    def profiled(self) -> Mapping[str, dict[str, list[float]]]:
        """Lowest and highest measured value of each operator's columns; predictions beyond them extrapolate."""
        return _ByOperator(self._contents, lambda operator: self._model(operator).metadata["profiled"])

    @property
    def metadata(self) -> Mapping[str, dict[str, Any]]:
        """Provenance and held-out errors of each operator, as ``train`` wrote them."""
        return _ByOperator(self._contents, lambda operator: self._model(operator).metadata)

    def _model(self, operator: str) -> Model:
        if operator not in self._models:
            path = self._paths[operator]
            model = Model(self._contents[operator], path, trusted=ZOO in path.resolve().parents)
            names = list(OPERATORS[operator].features)
            if model.metadata.get("features") != names or model.features != len(names):
                wrong = "was trained on other features than this version of fastsim computes"
                raise EstimatorError("estimator", str(path), wrong, "train it again")
            _check_metadata(operator, model.metadata, path)
            self._models[operator] = model
        return self._models[operator]


class _ByOperator(Mapping[str, Any]):
    """What is known of each operator; its file is decoded when it is first asked for."""

    def __init__(self, operators: Collection[str], read: Callable[[str], Any]) -> None:
        self._operators, self._read = operators, read

    def __getitem__(self, operator: str) -> Any:
        if operator not in self._operators:
            raise KeyError(operator)
        return self._read(operator)

    def __contains__(self, operator: object) -> bool:
        return operator in self._operators

    def __iter__(self) -> Iterator[str]:
        return iter(self._operators)

    def __len__(self) -> int:
        return len(self._operators)


def entry_files(zoo: Path, device: str, dtype: str) -> dict[str, Path]:
    """Files of an entry of a zoo by operator: of those that were measured."""
    paths = {operator: zoo / f"{device}-{dtype}" / (operator + SUFFIX) for operator in operators_of(dtype)}
    return {operator: path for operator, path in paths.items() if path.exists()}


def list_zoo(directory: Path | str | None = None) -> list[tuple[str, str]]:
    """Pairs (device, dtype) that have estimators, sorted."""
    zoo = ZOO if directory is None else Path(directory)
    entries = sorted(path.name for path in zoo.iterdir() if path.is_dir()) if zoo.is_dir() else []
    return [(device, dtype) for device, _, dtype in (name.rpartition("-") for name in entries) if device]


def describe(device: str, dtype: str = "bf16", directory: Path | str | None = None) -> dict[str, dict[str, Any]]:
    """Source, ranges and held-out errors of each operator of one entry of the zoo."""
    return dict(OperatorEstimators.load(device, dtype, directory).metadata)


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, MAX_MODEL_BYTES)
    except (OSError, ValueError) as error:
        mend = "reinstall the package or run fastsim estimators train"
        raise EstimatorError("estimator", str(path), "cannot be read", mend) from error


def _check_metadata(operator: str, metadata: Mapping[str, Any], path: Path) -> None:
    """Refuse a file that does not say what is needed to predict, or in other words."""
    try:
        numbers = [*vars(Roofline(**metadata["roofline"])).values()]
        calibration = Calibration(**metadata["calibration"])
        numbers += [calibration.inflation, calibration.shared]
        numbers += [edge for low, high in metadata["profiled"].values() for edge in (low, high)]
        known = set(metadata["profiled"]) <= set(OPERATORS[operator].columns)
        if known and all(isinstance(number, int | float) for number in numbers):
            return
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    wrong = "does not say how it was trained"
    raise EstimatorError("estimator", str(path), wrong, "train it again")


def _inside(
    operator: str, columns: Mapping[str, Floats], profiled: Mapping[str, tuple[float, float]]
) -> dict[str, Floats]:
    """Columns moved to the edge of what was measured where they are beyond it; the same arrays where none is."""
    inside = dict(columns)
    for name, (low, high) in profiled.items():
        values = columns[name]
        if name not in OPERATORS[operator].modelled and not (values.min() >= low and values.max() <= high):
            inside[name] = np.clip(values, low, high)
    return inside


def _checked(operator: str, columns: Mapping[str, ArrayLike]) -> tuple[dict[str, Floats], tuple[int, ...]]:
    """Columns as flat float64 arrays of equal length, and their common shape."""
    least = OPERATORS[operator].columns
    if set(columns) != set(least):
        mend = f"give exactly {', '.join(least)}"
        raise EstimatorError(f"columns of {operator}", sorted(columns), "are not the operator's", mend)
    arrays = [np.asarray(columns[name], dtype=np.float64) for name in least]
    try:
        arrays = list(np.broadcast_arrays(*arrays))
    except ValueError as error:
        shapes = {name: array.shape for name, array in zip(least, arrays, strict=True)}
        raise EstimatorError(f"columns of {operator}", shapes, "do not fit together", "give equal lengths") from error
    for (name, smallest), array in zip(least.items(), arrays, strict=True):
        bad: NDArray[np.bool_] = ~((array >= smallest) & np.isfinite(array))
        if bad.any():
            wrong = f"is not a finite number of at least {smallest}"
            raise EstimatorError(f"{operator}: {name}", float(array[bad][0]), wrong, f"give {smallest} or more")
    return {name: array.ravel() for name, array in zip(least, arrays, strict=True)}, arrays[0].shape
