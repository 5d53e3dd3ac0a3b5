"""KV blocks: what a request holds, and the blocks of the decodes, counted without touching the decodes.

A decode of context T (its token being written included) holds ceil(T / block_size) blocks and takes a new one in the
step in which T - 1 is a multiple of block_size. Every decode gains one token per decode step, so that happens at the
steps congruent to one number modulo block_size: ``integers[replica.crossings + k]`` counts the decodes that take a
block in the steps congruent to k. Where blocks are reserved for life nothing is counted there.
"""

import numpy as np

from fastsim.kernel.jit import jit
from fastsim.kernel.state import AS_WRITTEN, DECODE, FOR_LIFE, PREFILL, WHOLE_PROMPT


@jit(forceinline=True)
def full_blocks(num_tokens, replica):
    """Blocks that this many tokens fill: by a shift where it can be, for divisions cost more than all else here."""
    if replica.block_shift >= 0:
        return np.int64(num_tokens) >> replica.block_shift
    return num_tokens // replica.block_size


@jit(forceinline=True)
def within_block(position, replica):
    """What is left of a position, or of a step, behind whole blocks."""
    if replica.block_shift >= 0:
        return position & (replica.block_size - 1)
    return position % replica.block_size


@jit(forceinline=True)
def blocks_of(num_tokens, replica):
    """Blocks that hold this many tokens."""
    return full_blocks(num_tokens + replica.block_size - 1, replica)


@jit()
def whole_tokens(request):
    """Prompt and output tokens of a request."""
    return np.int64(request.prompt_tokens) + request.output_tokens


@jit()
def written_tokens(replica, request):
    """Tokens of this running request whose KV is written before the batch being formed."""
    if request.phase == DECODE:
        return replica.step - request.origin - 1
    return np.int64(request.computed)


@jit(forceinline=True)
def held_blocks(replica, request):
    """Blocks that this running request holds before the batch being formed gives it more."""
    if replica.memory_rule == FOR_LIFE:
        return replica.reserved_blocks
    if replica.memory_rule != AS_WRITTEN and request.phase == PREFILL:
        return blocks_of(request.prompt_tokens + request.generated, replica)
    return blocks_of(written_tokens(replica, request), replica)


@jit()
def crossing(replica, origin):
    """Position in the integer pool that counts the decodes with this origin."""
    return np.uintp(replica.crossings + within_block(origin + 1, replica))


@jit()
def count_crossing(replica, integers, origin, decodes):
    """Count (or with decodes = -1 discount) a decode with this origin among those that take blocks."""
    if replica.memory_rule != FOR_LIFE:
        integers[crossing(replica, origin)] += decodes


@jit()
def blocks_to_decode(replica, integers):
    """Blocks that the decodes need for the decode step being formed."""
    return integers[np.uintp(replica.crossings + within_block(replica.step, replica))]


@jit()
def blocks_suffice(replica, needed):
    """Whether the decodes can certainly run, needing these blocks."""
    return needed + replica.spare_blocks <= replica.free_blocks or replica.num_decodes == 0


@jit()
def decode_needs_block(replica, request):
    """Whether this decode needs a block for the decode step being formed."""
    return replica.memory_rule != FOR_LIFE and within_block(replica.step - request.origin - 1, replica) == 0


@jit()
def first_blocks(replica, request, num_tokens):
    """Blocks that a waiting request takes when it is admitted with a first chunk of num_tokens."""
    if replica.memory_rule == FOR_LIFE:
        return replica.reserved_blocks
    if replica.memory_rule == WHOLE_PROMPT:
        return blocks_of(request.prompt_tokens + request.generated, replica)
    return blocks_of(request.computed + num_tokens, replica)


@jit()
def chunk_blocks(replica, request, num_tokens):
    """Blocks that a running prefill takes for its next chunk of num_tokens."""
    if replica.memory_rule != AS_WRITTEN:
        return np.int64(0)
    return blocks_of(request.computed + num_tokens, replica) - blocks_of(request.computed, replica)
