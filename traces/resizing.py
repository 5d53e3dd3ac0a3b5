"""The requests of a trace with other lengths and on another time axis."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from traces.block_ids import BlockIds, max_blocks
from traces.errors import real_number, whole_number
from traces.rates import with_rate
from traces.trace_columns import scaled
from traces.workload import Workload


@dataclass(frozen=True)
class Resizing:
    """What is changed about the requests of a trace.

    Attributes:
        prompt_scale: what prompts are multiplied with; the result is cut to an integer, at least 1.
        output_scale: the same for outputs.
        time_scale: what arrival times are multiplied with.
        rate_scale: requests for each of the trace in the same time: more are copies of it, fewer are drawn from it; see
            `traces.rates.with_rate`.
        max_total_tokens: most tokens of prompt and output together. Longer requests lose prompt tokens; outputs beyond
            max_total_tokens - 1 are cut to that first. 0 cuts nothing.
    """

    prompt_scale: float = 1.0
    output_scale: float = 1.0
    time_scale: float = 1.0
    rate_scale: float = 1.0
    max_total_tokens: int = 0

    def __post_init__(self) -> None:
        for name in ("prompt_scale", "output_scale", "time_scale", "rate_scale"):
            object.__setattr__(self, name, real_number(name, getattr(self, name), 1e-9, 1e9))
        least = 2 if self.max_total_tokens else 0
        most = whole_number("max_total_tokens", self.max_total_tokens, least)
        object.__setattr__(self, "max_total_tokens", most)

    def apply(self, workload: Workload, seed: int = 0) -> Workload:
        """The changed requests; a note says how many were cut, and the seed is that of ``rate_scale``.

        Block ids stay as far as the text does: a prompt loses its end, or gets tokens of its own there.
        """
        if self.rate_scale != 1:
            workload = with_rate(workload, self.rate_scale, seed)
        prompt, output = scaled(workload.prompt_tokens, workload.output_tokens, self.prompt_scale, self.output_scale)
        notes = workload.notes
        if self.max_total_tokens:
            prompt, output, num_cut = cut_prompts(prompt, output, self.max_total_tokens)
            if num_cut:
                notes += (f"{num_cut} of {len(workload)} requests were cut to {self.max_total_tokens} tokens",)
        provenance = {**workload.provenance, "resized": dict(vars(self))}
        return replace(
            workload,
            arrival_s=workload.arrival_s * self.time_scale,
            prompt_tokens=prompt,
            output_tokens=output,
            provenance=provenance,
            notes=notes,
            blocks=_blocks(workload, prompt, output),
        )


def _blocks(workload: Workload, prompt: NDArray[np.int64], output: NDArray[np.int64]) -> BlockIds:
    """The ids that the requests keep with prompts and outputs of these lengths, each of shape (n,)."""
    if not workload.block_tokens:
        return workload.blocks
    tokens, before = workload.block_tokens, workload.prompt_tokens
    # The last block of a prompt may be one that it does not fill, the same one only if the prompt is.
    whole_prompt = np.maximum(max_blocks(before, tokens), (before + output) // tokens)
    return workload.blocks.cut(np.where(prompt == before, whole_prompt, np.minimum(prompt, before) // tokens))


def cut_prompts(
    prompt_tokens: NDArray[np.int64], output_tokens: NDArray[np.int64], max_total_tokens: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Lengths, each of shape (n,), with prompt + output <= max_total_tokens, and how many requests were longer."""
    num_cut = int(np.count_nonzero(prompt_tokens + output_tokens > max_total_tokens))
    output_tokens = np.minimum(output_tokens, max_total_tokens - 1)
    return np.minimum(prompt_tokens, max_total_tokens - output_tokens), output_tokens, num_cut
