"""What a run rests on that was not measured: how far, and how often, it read beyond the profiles behind its tables."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsim.config import SimulationConfig

if TYPE_CHECKING:
    from estimators import ModelSpec
    from fastsim.kernel.state import State
    from fastsim.stage_tables import StageTables


class ProfiledRangeWarning(UserWarning):
    """A table was read outside the range in which its operators were measured."""


class ContextLengthWarning(UserWarning):
    """Requests are longer than the model was made for."""


def find_warnings(
    config: SimulationConfig,
    lengths: npt.NDArray[np.int64],
    model: "ModelSpec",
    tables: "StageTables",
    state: "State",
) -> list[Warning]:
    """What to warn about after a run, at most one warning of each kind.

    Args:
        config: what served.
        lengths: how many requests have so many tokens, prompt and output together; int64 [any].
        model: what was served.
        tables: how long iterations took.
        state: the kernel's tables after the run, of which those of replicas are read.
    """
    found: list[Warning] = []
    stages = [table.provenance for table in tables.stages]
    beyond = [name for provenance in stages for name in provenance.get("outside_profiles", ())]
    beyond += [axis for provenance in stages for axis in _reads_outside(config, provenance, state, lengths)]
    if batches := int(state.replicas["outside_batches"].sum()):
        beyond.append(f"in all in {batches:,} of {int(state.replicas['iteration'].sum()):,} batches")
    if beyond:
        found.append(outside_profiles(beyond))
    longest = int(np.flatnonzero(lengths)[-1])
    if longest > model.max_position_embeddings:
        found.append(
            ContextLengthWarning(
                f"requests of up to {longest} tokens exceed the {model.max_position_embeddings} positions that "
                f"{config.model} was made for; an engine would refuse them"
            )
        )
    return found


def outside_profiles(what: Sequence[str]) -> ProfiledRangeWarning:
    """The warning about times outside the profiles, each named once."""
    return ProfiledRangeWarning(
        f"some times are extrapolated, from outside the measured range: {'; '.join(dict.fromkeys(what))}"
    )


def largest_measured(tables: "StageTables") -> dict[str, int]:
    """Largest value of each axis that was measured for every stage, where that is known."""
    found: dict[str, int] = {}
    for table in tables.stages:
        for axis, span in table.provenance.get("profiled", {}).items():
            if span:
                found[axis] = min(int(span[1]), found.get(axis, int(span[1])))
    return found


def _reads_outside(
    config: SimulationConfig, provenance: Mapping[str, Any], state: "State", lengths: npt.NDArray[np.int64]
) -> list[str]:
    """What the run read of each axis beyond what was measured, and by how many requests where they alone decide."""
    replicas = state.replicas
    tokens = int(replicas["peak_batch_tokens"].max())
    reached = {
        "tokens": ("tokens in a batch", tokens),
        "sequences": ("requests in a batch", int(replicas["peak_sequences"].max())),
        "decodes": ("decodes in a batch", int(replicas["peak_decodes"].max())),
        "engines": ("tokens of engines that share experts", config.data_parallel * tokens),
        # The last token is written by nobody and read by nobody.
        "decode_context": ("tokens of context", int(np.flatnonzero(lengths)[-1]) - 1),
        "history": ("tokens before a chunk", int(replicas["peak_history"].max())),
        "chunk": ("tokens in a chunk", int(replicas["peak_chunk"].max())),
    }
    profiled: dict[str, Any] = provenance.get("profiled", {})
    found = []
    for axis, (what, peak) in reached.items():
        most = profiled[axis][1] if profiled.get(axis) else peak
        if peak > most:
            often = ""
            if axis == "decode_context":
                often = f" (in {lengths[int(most) + 2 :].sum():,} of {lengths.sum():,} requests)"
            found.append(f"up to {peak} {what}{often}, measured up to {most:.0f}")
    return found
