"""KV blocks of the decodes, counted without touching the decodes.

A decode of context T (its token being written included) holds ceil(T / block_size) blocks and takes a new one in the
iteration in which T - 1 is a multiple of block_size. Every decode gains one token per iteration, so that happens at the
iterations congruent to one number modulo block_size: ``integers[replica.crossings + k]`` counts the decodes that take
a block in the iterations congruent to k.
"""

from fastsim.kernel.jit import jit


@jit()
def blocks_of(num_tokens, replica):
    """Blocks that hold this many tokens."""
    return (num_tokens + replica.block_size - 1) // replica.block_size


@jit()
def crossing(replica, origin):
    """Position in the integer pool that counts the decodes with this origin."""
    return replica.crossings + (origin + 1) % replica.block_size


@jit()
def blocks_to_decode(replica, integers):
    """Blocks that the decodes need for the iteration being formed."""
    return integers[replica.crossings + replica.iteration % replica.block_size]
