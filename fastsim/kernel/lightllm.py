"""Batch policy of LightLLM (docs/policies.md): token-level memory, admission by the peak of the memory to come.

The peak of a set of requests is the largest, over the moments at which one of them ends, of what the others hold then.
With ``left`` the decode steps until a request's last and ``held`` its tokens, and the requests sorted by ``left``,
descending, it is the maximum over i of left_i (i + 1) + held_0 + ... + held_i. Running takes one from ``left`` and adds
one to ``held``: the sum stays, so each request is entered once, as (last step, origin), and never touched again.
"""

import numpy as np

from fastsim.kernel.blocks import blocks_to_decode
from fastsim.kernel.jit import jit
from fastsim.kernel.running import admit, last_step
from fastsim.kernel.state import NONE


@jit()
def schedule(requests, replica, integers):
    """Form the next batch: prefills alone when nobody runs or after so many decode steps, else all decodes.

    Returns:
        The number of tokens in the batch.
    """
    if replica.num_running == 0 or replica.step - replica.attempt_step >= replica.max_waiting_iterations:
        replica.attempt_step = replica.step
        tokens = admit_under_peak(requests, replica, integers)
        if replica.num_prefills > 0:
            replica.decodes_run = 0
            replica.batch_may_change = 1
            return tokens
    replica.free_blocks -= blocks_to_decode(replica, integers)
    replica.batch_may_change = 0
    replica.ask_step = replica.attempt_step + replica.max_waiting_iterations
    return replica.num_decodes


@jit()
def admit_under_peak(requests, replica, integers):
    """Admit whole prompts while the limits hold and the peak stays below the pool; returns their tokens."""
    forget_completed(replica, integers)
    tokens = 0
    while replica.waiting_head != NONE and replica.num_running < replica.max_num_seqs:
        head = requests[replica.waiting_head]
        if tokens + head.prompt_tokens > replica.max_num_batched_tokens:
            break
        head.origin = replica.step - head.prompt_tokens - 1
        if peak_with(replica, integers, last_step(head), head.origin) >= replica.num_blocks:
            break
        enter(replica, integers, last_step(head), head.origin)
        tokens += head.prompt_tokens
        admit(requests, replica, integers, head.prompt_tokens)
    return tokens


@jit()
def forget_completed(replica, integers):
    """Take those whose last step is over off the end of the list."""
    end = replica.by_left + 2 * replica.num_by_left
    while end > replica.by_left and integers[end - 2] < replica.step:
        end -= 2
        replica.origins_by_left -= integers[end + 1]
    replica.num_by_left = (end - replica.by_left) // 2


@jit()
def enter(replica, integers, last, origin):
    """Enter a request into the list, which descends by last step."""
    place = replica.by_left + 2 * replica.num_by_left
    while place > replica.by_left and integers[np.uintp(place - 2)] < last:
        integers[np.uintp(place)] = integers[np.uintp(place - 2)]
        integers[np.uintp(place + 1)] = integers[np.uintp(place - 1)]
        place -= 2
    integers[np.uintp(place)] = last
    integers[np.uintp(place + 1)] = origin
    replica.num_by_left += 1
    replica.origins_by_left += origin


@jit()
def peak_with(replica, integers, last, origin):
    """Most tokens that requests will hold when one of them ends, if this one is entered [tokens].

    Of those before it in the list nothing changes, and they were below the pool when the last of them was entered: so
    the list is read from its end to the place of this one.
    """
    members = replica.num_by_left + 1
    held = members * replica.step - (replica.origins_by_left + origin)
    highest = 0
    place = replica.by_left + 2 * replica.num_by_left
    while place > replica.by_left and integers[np.uintp(place - 2)] < last:
        highest = max(highest, max(0, integers[np.uintp(place - 2)] - replica.step) * members + held)
        held -= replica.step - integers[np.uintp(place - 1)]
        members -= 1
        place -= 2
    return max(highest, max(0, last - replica.step) * members + held)
