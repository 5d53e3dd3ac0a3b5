"""Experts of a layerwise profile, on one of the GPUs that share them."""

from __future__ import annotations

import os

from estimators.errors import EstimatorError
from estimators.experts import expert_seconds
from estimators.layout import FloatArray, IntArray
from estimators.model_spec import ModelSpec
from estimators.operators import check_sharing
from estimators.sources.all_reduce import Exchange
from estimators.sources.layerwise import read_experts


def check_engines(spec: ModelSpec, tp: int, dp: int, ep: int, exchange: Exchange | None) -> bool:
    """Whether engines share experts."""
    check_sharing(spec, tp, dp, ep)
    shared = dp > 1 and spec.experts is not None
    if shared and (exchange is None or exchange.gpus != tp * dp):
        wrong = f"needs the time of an exchange between {tp * dp} GPUs, which layerwise profiles do not hold"
        raise EstimatorError("data_parallel", dp, wrong, "give exchange, as estimators.sources.all_reduce reads it")
    return shared


class LayerExperts:
    """The experts of a layer on one GPU."""

    def __init__(self, directory: str | os.PathLike[str], spec: ModelSpec, tp: int, dp: int, ep: int) -> None:
        """Find the measurements that fit: of the GPU's part of every expert, or else of whole experts."""
        self._experts = spec.experts
        gpus = tp * dp
        split = read_experts(directory, gpus) if ep == 1 else None
        whole = read_experts(directory, 1) if split is None else None
        self._moe = split if split is not None else whole
        if self._moe is None:
            raise EstimatorError("moe.csv", None, f"is missing, and {spec.name} has experts", "give a profile with it")
        self._gpus = gpus if split is None else 1
        self.provenance = {"gpus": gpus, "whole": ep > 1 or gpus == 1, "measured_at_tp": 1 if split is None else gpus}

    def seconds(self, tokens: IntArray) -> FloatArray:
        """Seconds of one layer by tokens of all engines."""
        assert self._moe is not None
        assert self._experts is not None
        return expert_seconds(*self._moe, self._experts, tokens, self._gpus)
