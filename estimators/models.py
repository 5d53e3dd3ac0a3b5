"""Models by name or from a file."""

from __future__ import annotations

import functools
import importlib.resources
import json
import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estimators.bounded import parsed_json, read_bounded
from estimators.errors import EstimatorError
from estimators.hf_config import model_from_config
from estimators.model_catalogue import catalogued_config
from estimators.model_spec import ModelSpec
from estimators.vidur_model import model_from_vidur, vidur_model_config

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["ModelSpec", "load_model", "model_from_config", "model_names"]

_CONFIG, _QUANTISATION = "config.json", "hf_quant_config.json"


@functools.cache
def _builtin() -> Mapping[str, Mapping[str, Any]]:
    """The figures of public config.json files by name, keys that matter here; ``like`` names a model to start from."""
    text = (importlib.resources.files("estimators") / "builtin_models.json").read_text(encoding="utf-8")
    told: dict[str, dict[str, Any]] = json.loads(text)
    return {name: told.get(config.get("like", ""), {}) | config for name, config in told.items()}


def model_names() -> tuple[str, ...]:
    """Names that ``load_model`` knows without a file, sorted."""
    return tuple(sorted(_builtin(), key=str.lower))


@functools.cache
def _builtin_model(given: str) -> ModelSpec | None:
    """The built-in model of a name in lower case; None where there is none. Searches ask for each many times."""
    for name, config in _builtin().items():
        if given in (name.lower(), name.lower().rpartition("/")[2]):
            return model_from_config(config, name)
    return None


def load_model(name_or_path: str | os.PathLike[str]) -> ModelSpec:
    """Return the model of a name, or of a Hugging Face ``config.json`` (or the directory that holds one).

    Names are those of ``model_names``, in any case, and with or without what stands before their last slash; then come
    paths, then names of the configurations in NVIDIA's package aiconfigurator-core or aisimulate-core, if installed.
    The ``config.json`` of a run of the simulator Vidur is taken, too.

    Raises:
        EstimatorError: when there is neither such a model nor such a file, or the file describes a model that is not
            simulated.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise EstimatorError("model", name_or_path, "is neither a name nor a path", "give one of them or a ModelSpec")
    given = os.fspath(name_or_path)
    if (builtin := _builtin_model(given.lower())) is not None:
        return builtin
    path = Path(given)
    if path.is_dir():
        path = path / _CONFIG
    if path.is_file():
        return _model_of_file(path, path.with_name(path.name.replace(_CONFIG, _QUANTISATION)))
    if (found := catalogued_config(given)) is not None:
        config = _with_quantisation(_read_json(found.config), found.quantisation)
        return model_from_config(config, found.name, found.name)
    mend = f"name a config.json, a model of an installed aiconfigurator-core, or {_suggested(given)}"
    raise EstimatorError("model", given, "is neither a known name nor a file", mend)


def _suggested(given: str) -> str:
    """The built-in names most like one that is not known; all of them where none is."""
    names = {name.rpartition("/")[2].lower(): name for name in model_names()}
    like = get_close_matches(given.rpartition("/")[2].lower(), names)
    return " or ".join(names[name] for name in like) if like else f"one of {', '.join(names.values())}"


def _model_of_file(path: Path, beside: Path) -> ModelSpec:
    """The model of a ``config.json``, with what a file beside it says of its quantisation."""
    config = _read_json(path)
    if (vidur := vidur_model_config(config)) is not None:
        return model_from_vidur(vidur, f"{path}: model_config")
    name = path.resolve().parent.name if path.name == _CONFIG else path.stem
    return model_from_config(_with_quantisation(config, beside if beside != path else None), name, str(path))


def _with_quantisation(config: dict[str, Any], beside: Traversable | None) -> dict[str, Any]:
    if beside is not None and not config.get("quantization_config") and beside.is_file():
        config["quantization_config"] = _read_json(beside)
    return config


def _read_json(path: Traversable) -> dict[str, Any]:
    try:
        raw = read_bounded(path) if isinstance(path, Path) else path.read_bytes()
        content = parsed_json(raw, takes_constants=True)  # some models' time_step_limit is [0.0, Infinity]
    except (OSError, ValueError) as error:
        wrong = f"cannot be read as JSON ({error})"
        raise EstimatorError("model", str(path), wrong, f"give a valid {path.name}") from error
    if not isinstance(content, dict):
        raise EstimatorError("model", str(path), "does not hold a JSON object", f"give a valid {path.name}")
    return content
