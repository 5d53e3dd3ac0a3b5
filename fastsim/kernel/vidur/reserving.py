"""The batch policies of Orca and FasterTransformer, which reserve the longest request for life (docs/policies.md)."""

from fastsim.kernel.jit import jit
from fastsim.kernel.vidur.lists import append, pop_first
from fastsim.kernel.vidur.members import admit, clear, count, finished, join, release
from fastsim.kernel.vidur.state import GROUPS, NONE, RUNNING, WAITING


@jit()
def schedule_orca(work, replica, batch):
    """Decodes in the order of the running list, then whole prompts."""
    running, members = replica.lists + RUNNING, batch.members
    while work.lists[running].length > 0 and work.lists[members].length != replica.max_micro_batch:
        join(work, replica, batch, pop_first(work.requests, work.lists, running), 1)
    admit_whole_prompts(work, replica, batch)


@jit()
def admit_whole_prompts(work, replica, batch):
    """Admit from the head of the queue while there are seats and reservations."""
    waiting, members = replica.lists + WAITING, batch.members
    while (
        work.lists[waiting].length > 0
        and work.lists[members].length != replica.max_micro_batch
        and replica.free_blocks >= replica.blocks_for_life
    ):
        head = work.requests[work.lists[waiting].head]
        admit(work, replica, batch, replica.blocks_for_life, head.prefill)


@jit()
def next_group(work, replica, now_s):
    """The group that has waited longest as a batch of decodes, or NONE."""
    if work.lists[replica.lists + GROUPS].length == 0:
        return NONE
    b = pop_first(work.batches, work.lists, replica.lists + GROUPS)
    batch = work.batches[b]
    clear(batch, now_s)
    i = work.lists[batch.members].head
    while i != NONE:
        count(replica, batch, work.requests[i], 1)
        i = work.requests[i].next
    return b


@jit()
def end_group(work, replica, b):
    """After the end of a group's batch: its unfinished members wait for the next one.

    Blocks are freed only when nobody is left, and only those of the members of this last batch (oddity 5).

    Returns:
        Whether the group is over.
    """
    batch = work.batches[b]
    num_members = work.lists[batch.members].length
    unfinished = 0
    i = work.lists[batch.members].head
    while i != NONE:
        unfinished += not finished(work.requests[i])
        i = work.requests[i].next
    for _ in range(num_members):
        i = pop_first(work.requests, work.lists, batch.members)
        if unfinished == 0:
            release(replica, work.requests[i])
        elif not finished(work.requests[i]):
            append(work.requests, work.lists, batch.members, i)
    if unfinished > 0:
        append(work.batches, work.lists, replica.lists + GROUPS, b)
    return unfinished == 0
