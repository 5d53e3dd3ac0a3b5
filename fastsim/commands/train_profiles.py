"""Which measured profiles ``fastsim estimators train`` learns from."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.commands.parsing import refuse_flags
from fastsim.errors import ConfigError
from fastsim.options import integer

if TYPE_CHECKING:
    from estimators.profiles import Profiles

SOURCES = ("aiconfigurator", "vidur", "layerwise", "own")
#: Flags that mean something to some sources only.
_OF_SOURCE = {
    "backend": ("source aiconfigurator",),
    "version": ("source aiconfigurator",),
    "directory": ("source vidur", "source layerwise", "source own"),
    "model": ("source vidur", "source layerwise"),
    "tensor_parallel": ("source layerwise",),
}
#: Operators that Vidur's files and the zoo's tables have in common.
_OF_VIDUR = ("gemm", "prefill_attention", "decode_attention", "all_reduce")


def read_source(command: Any, dtype: str) -> "list[Profiles] | None":
    """The profiles that flags ask for.

    Args:
        command: flags ``source``, ``directory``, ``device``, ``model`` and ``tensor_parallel``.
        dtype: of the profiles.

    Returns:
        Profiles of each operator; None for aiconfigurator's, which training reads by itself.

    Raises:
        ConfigError: an unknown source, a flag that means nothing to it, or one that it needs.
        estimators.EstimatorError: the profiles cannot be read, or there are none of this dtype.
    """
    source = command.source
    if source not in SOURCES:
        raise ConfigError("source", source, "is not known", f"choose one of {', '.join(SOURCES)}")
    refuse_flags(command, f"source {source}", _OF_SOURCE)
    if source == "aiconfigurator":
        return None
    if command.directory is None:
        raise ConfigError("directory", None, "is not given", f"write --directory DIR, where the {source} profiles are")
    directory = Path(command.directory)
    read = {"vidur": _vidur, "layerwise": _layerwise, "own": _own}[source]
    profiles = [one for one in read(directory, command, dtype) if one.dtype == dtype]
    if not profiles:
        wrong = f"has no {source} profiles in {dtype}"
        raise ConfigError("directory", str(directory), wrong, "choose another, or another --dtype")
    return profiles


def _own(directory: Path, command: Any, dtype: str) -> "list[Profiles]":
    """Every file of fastsim's own there."""
    from estimators import load_device
    from estimators.profiles import COLUMNS
    from estimators.sources.own import own_path, read_own

    paths = [own_path(directory, operator, dtype) for operator in COLUMNS]
    profiles = [read_own(path) for path in paths if path.is_file()]
    name = load_device(command.device).name
    for one in profiles:
        if one.system != name:
            wrong = f"is not {one.system}, where the profiles of {directory} were measured"
            raise ConfigError("device", command.device, wrong, f"give {one.system}")
    return profiles


def _vidur(directory: Path, command: Any, dtype: str) -> "list[Profiles]":
    """Every operator that has a file; Vidur calls GPUs as we do but for the form, and nodes by how they are wired."""
    from estimators import EstimatorError
    from estimators.sources.vidur import read_vidur

    gpu = command.device.lower().removesuffix("_sxm")
    nodes = (f"{gpu}_dgx", f"{gpu}_pairwise_nvlink")
    node = next((name for name in nodes if (directory / "network" / name).is_dir()), nodes[0])
    found, missing = [], []
    for operator in _OF_VIDUR:
        network = operator == "all_reduce"
        try:
            place = node if network else gpu
            found.append(read_vidur(directory, operator, place, model=None if network else command.model))
        except EstimatorError as error:
            if error.field != "profiles":  # a file that is wrong, where others are not there
                raise
            missing.append(error)
    if not found:
        raise missing[0]
    return found


def _layerwise(directory: Path, command: Any, dtype: str) -> "list[Profiles]":
    """Products and attention of the layers of a model."""
    from estimators import load_model
    from estimators.sources.layerwise_profiles import layerwise_profiles

    if command.model is None:
        mend = "write fastsim estimators train MODEL ..., the model of its meta.yaml"
        raise ConfigError("model", None, "is not given, whose layers were measured", mend)
    return layerwise_profiles(directory, integer("tensor_parallel", command.tensor_parallel), load_model(command.model))
