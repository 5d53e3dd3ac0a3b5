"""SGLang's way out of a shortage of KV blocks: decodes are retracted, and the ratio of outputs to come is raised."""

from fastsim.kernel.blocks import blocks_of, blocks_to_decode
from fastsim.kernel.jit import jit
from fastsim.kernel.pieces import take_blocks
from fastsim.kernel.preemption import stop_running
from fastsim.kernel.queues import append_waiting
from fastsim.kernel.radix_tree import evict
from fastsim.kernel.state import DECODE, NONE, PRIORITY

#: Tokens that each survivor of a shortage should find memory for.
_TOKENS_PER_SURVIVOR = 20


@jit()
def decode_steps(replica):
    """Number of the decode step being formed, counted over all slots."""
    return replica.decode_batches if replica.num_stages > 1 else replica.step


@jit()
def set_ratio(replica, ratio, step):
    """Set the ratio as it is before a decode step."""
    replica.ratio = ratio
    replica.ratio_step = step


@jit()
def settle_ratio(replica):
    """Bring the ratio to the decode step being formed, by the subtractions of the steps since it was last read."""
    ratio = replica.ratio
    step = decode_steps(replica)
    for _ in range(step - replica.ratio_step):
        if ratio == replica.ratio_floor:
            break
        ratio = max(replica.ratio_floor, ratio - replica.ratio_decay)
    set_ratio(replica, ratio, step)
    return ratio


@jit()
def make_room(requests, replica, integers):
    """Take the blocks of the next decode step, retracting decodes until there are enough; then the ratio is raised."""
    needed = blocks_to_decode(replica, integers)
    while needed > replica.free_blocks:
        i = victim(requests, replica)
        needed -= stop_running(requests, replica, integers, i)
        append_waiting(requests, replica, i)
        if replica.radix:
            spare = blocks_of(_TOKENS_PER_SURVIVOR * replica.num_decodes, replica)
            evict(replica, integers, spare - (replica.free_blocks - replica.evictable))
    take_blocks(replica, integers, needed)
    if replica.preempted_now > 0:
        replica.full_mark = 0
        raise_ratio(requests, replica)


@jit()
def victim(requests, replica):
    """The decode that is retracted next: of the least important class, fewest outputs, longest prompt, then latest."""
    worst = NONE
    i = replica.running_head
    while i != NONE:
        if requests[i].phase == DECODE and (worst == NONE or goes_before(requests, replica, i, worst)):
            worst = i
        i = requests[i].next
    return worst


@jit()
def goes_before(requests, replica, i, j):
    """Whether decode i is retracted before decode j."""
    a, b = requests[i], requests[j]
    if replica.queue_order == PRIORITY and a.order_key != b.order_key:
        return a.order_key > b.order_key
    # Outputs so far are step - origin - prompt.
    fewer = (b.origin + b.prompt_tokens) - (a.origin + a.prompt_tokens)
    if fewer != 0:
        return fewer < 0
    if a.prompt_tokens != b.prompt_tokens:
        return a.prompt_tokens > b.prompt_tokens
    return i > j


@jit()
def raise_ratio(requests, replica):
    """Set the ratio to what the survivors of a shortage have generated of their outputs, and a little more."""
    if replica.num_decodes == 0:
        set_ratio(replica, replica.ratio_start, decode_steps(replica))
        return
    generated = 0
    outputs = 0
    i = replica.running_head
    while i != NONE:
        request = requests[i]
        if request.phase == DECODE:
            generated += replica.step - request.origin - request.prompt_tokens
            outputs += request.output_tokens
        i = request.next
    ratio = float(generated + _TOKENS_PER_SURVIVOR * replica.num_decodes) / float(outputs + 1)
    # The ratio does not fall with this very decode step.
    set_ratio(replica, min(1.0, ratio), decode_steps(replica) + 1)
