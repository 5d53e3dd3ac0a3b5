"""What one call of schedule() chose."""

from dataclasses import dataclass, field

from reference.requests import Request


@dataclass(frozen=True)
class BatchMember:
    """A request in a batch.

    Attributes:
        request: The request.
        history: Its tokens in KV before this iteration (C before).
        tokens: Its tokens in this iteration (n).
        is_decode: Whether its prefill ended in an earlier iteration since its last admission; else it is a chunk.
        yields_token: Whether the iteration produces an output token for it.
    """

    request: Request
    history: int
    tokens: int
    is_decode: bool
    yields_token: bool


@dataclass
class Batch:
    """One iteration's work.

    Attributes:
        members: Requests in order: those that were running, then those admitted.
        preempted: Requests preempted while the batch was formed, in the order of preemption.
        swapped_out_blocks: KV blocks copied to host memory for those, in swap mode.
        swapped_in_blocks: KV blocks copied back for members that had been swapped.
    """

    members: list[BatchMember] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)
    swapped_out_blocks: int = 0
    swapped_in_blocks: int = 0

    @property
    def num_tokens(self) -> int:
        """All tokens."""
        return sum(member.tokens for member in self.members)

    @property
    def num_decodes(self) -> int:
        """Members that decode."""
        return sum(member.is_decode for member in self.members)

    @property
    def decode_kv(self) -> int:
        """KV tokens the decodes read together, the ones being written included."""
        return sum(member.history + member.tokens for member in self.members if member.is_decode)

    @property
    def decode_contexts(self) -> list[int]:
        """KV tokens that each decode reads, the one being written included."""
        return [member.history + member.tokens for member in self.members if member.is_decode]

    @property
    def chunks(self) -> list[BatchMember]:
        """Members that prefill, in batch order."""
        return [member for member in self.members if not member.is_decode]
