"""Configurations of models in an installed package of NVIDIA's: aiconfigurator-core, or its successor aisimulate-core.

Only its JSON files are read. The package itself is never imported, which would load its compiled engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from estimators.sources.aiconfigurator_tree import PACKAGES, package_folder

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_CONFIG, _QUANTISATION = "_config.json", "_hf_quant_config.json"


class CataloguedConfig(NamedTuple):
    """Where a model's files are.

    Attributes:
        name: as on Hugging Face, such as ``"openai/gpt-oss-120b"``.
        config: its ``config.json``.
        quantisation: where its ``hf_quant_config.json`` is, if it has one.
    """

    name: str
    config: Traversable
    quantisation: Traversable


def catalogued_configs() -> tuple[CataloguedConfig, ...]:
    """All of the first installed package that has some, by name; none without one."""
    folder = next(filter(None, (package_folder(module, "model_configs") for module in PACKAGES)), None)
    if folder is None:
        return ()
    names = [file.name for file in folder.iterdir() if file.name.endswith(_CONFIG)]
    stems = sorted(name.removesuffix(_CONFIG) for name in names if not name.endswith(_QUANTISATION))
    return tuple(
        CataloguedConfig(stem.replace("--", "/"), folder / (stem + _CONFIG), folder / (stem + _QUANTISATION))
        for stem in stems
    )


def catalogued_config(name: str) -> CataloguedConfig | None:
    """The files of the model of a name, in any case and with or without what stands before its slash; None: unknown."""
    for entry in catalogued_configs():
        if name.lower() in (entry.name.lower(), entry.name.lower().rpartition("/")[2]):
            return entry
    return None
