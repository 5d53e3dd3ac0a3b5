"""Conversations: each turn's prompt is all that was said before, and what the user adds to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from traces.block_ids import BlockIds, offsets_of
from traces.errors import MAX_TOKENS, TraceError, real_number, whole_number
from traces.lengths import Lengths

MAX_TURNS: Final = 1000


@dataclass(frozen=True)
class Conversations:
    """Fields that all choices have.

    Attributes:
        turns: mean number of turns of a conversation, 1 to 1000.
        think_s: mean time from the completion of a turn to the arrival of the next one [s].
        think_cv: its coefficient of variation, 0.001 to 100 (1 makes it exponential), or 0 where it is always the same.
        system_prompt_tokens: length of a text with which all conversations begin.
        block_tokens: tokens that a block id stands for: fewer let more of the system prompt be shared, but a turn has
            an id, of 8 bytes, for each block. None for 16 with a system prompt, and else for 512.
    """

    turns: float
    think_s: float = 0.0
    think_cv: float = 1.0
    system_prompt_tokens: int = 0
    block_tokens: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "turns", real_number("turns", self.turns, 1, MAX_TURNS))
        object.__setattr__(self, "think_s", real_number("think_s", self.think_s, 0, 1e9))
        low = 1e-3 if self.think_cv else 0.0
        object.__setattr__(self, "think_cv", real_number("think_cv", self.think_cv, low, 1e2))
        system_prompt_tokens = whole_number("system_prompt_tokens", self.system_prompt_tokens, 0)
        object.__setattr__(self, "system_prompt_tokens", system_prompt_tokens)
        if self.block_tokens is not None:
            object.__setattr__(self, "block_tokens", whole_number("block_tokens", self.block_tokens, 1))

    def draw_turns(self, num_sessions: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Turns of each conversation, at least 1, shape (num_sessions,)."""
        raise NotImplementedError

    def draw_think_s(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Think times, shape (n,) [s]."""
        if not self.think_cv:
            return np.full(n, self.think_s)
        shape = self.think_cv**-2
        return rng.standard_gamma(shape, n) * (self.think_s / shape)


class Fixed(Conversations):
    """As many turns in each; ``turns`` is a whole number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "turns", whole_number("turns", self.turns, 1, MAX_TURNS))

    def draw_turns(self, num_sessions: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Turns of each conversation, shape (num_sessions,); draws nothing."""
        return np.full(num_sessions, self.turns, np.int64)


class Geometric(Conversations):
    """Each turn is the last with the same probability, 1 / ``turns``."""

    def draw_turns(self, num_sessions: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Turns of each conversation, at least 1, shape (num_sessions,)."""
        return rng.geometric(1 / self.turns, num_sessions).astype(np.int64)


CONVERSATIONS: Final[dict[str, type[Conversations]]] = {"fixed": Fixed, "geometric": Geometric}


class Turns(NamedTuple):
    """Requests of conversations, those of one behind those of the other, each array of shape (n,)."""

    session: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    think_s: NDArray[np.float64]
    blocks: BlockIds
    notes: tuple[str, ...]


def draw_conversations(
    conversations: Conversations,
    n: int,
    seed: int,
    draw_lengths: Callable[[int], Lengths],
    max_total_tokens: int | None,
) -> Turns:
    """The first n requests of endlessly many conversations.

    Args:
        conversations: what they are like.
        n: number of requests.
        seed: an integer of at least 0; turns and think times have its fourth and fifth stream.
        draw_lengths: the first so many lengths: what the user adds and what is answered, each of shape (m,).
        max_total_tokens: a turn that alone has more tokens with the system prompt loses some of the user's; a
            conversation ends before the turn that it would make longer than this. None for no limit.

    Raises:
        TraceError: the system prompt leaves no room for two tokens.
    """
    longest = MAX_TOKENS if max_total_tokens is None else max_total_tokens
    room = longest - conversations.system_prompt_tokens
    if room < 2:
        problem = f"is {conversations.system_prompt_tokens}, so max_total_tokens {longest} leaves no room for a turn"
        raise TraceError("system_prompt_tokens", conversations.system_prompt_tokens, problem, "give less")
    num_sessions = int(n / conversations.turns) + 1
    while True:
        turns = conversations.draw_turns(num_sessions, _stream(seed, 3))
        user, output = draw_lengths(int(turns.sum()))
        long = user + output > room
        output = np.minimum(output, room - 1)
        user = np.minimum(user, room - output)
        said = offsets_of(user + output)
        starts = offsets_of(turns)[:-1]
        total = said[1:] - np.repeat(said[starts], turns) + conversations.system_prompt_tokens
        kept = np.flatnonzero(total <= longest)[:n]  # all up to some turn of each conversation, the first at least
        if len(kept) == n:
            break
        num_sessions = min(2 * num_sessions, n)
    session = np.repeat(np.arange(num_sessions), turns)[kept]
    firsts = np.flatnonzero(np.diff(session, prepend=-1))
    think_s = conversations.draw_think_s(n, _stream(seed, 4))
    think_s[firsts] = np.nan
    total, output = total[kept], output[kept]
    notes: tuple[str, ...] = ()
    if num_cut := int(np.count_nonzero(long[kept])):
        notes += (f"{num_cut} of {n} turns were cut to max_total_tokens {longest}",)
    if num_ended := int(np.count_nonzero(np.diff(firsts) < turns[: len(firsts) - 1])):
        notes += (f"{num_ended} of {len(firsts)} conversations ended early, at max_total_tokens {longest}",)
    shared_tokens = conversations.system_prompt_tokens
    block_tokens = conversations.block_tokens or (16 if shared_tokens > 0 else 512)
    blocks = session_blocks(session, firsts, total, block_tokens, shared_tokens)
    return Turns(session, total - output, output, think_s, blocks, notes)


def session_blocks(
    session: NDArray[np.int64],
    firsts: NDArray[np.int64],
    total: NDArray[np.int64],
    block_tokens: int,
    shared_tokens: int = 0,
) -> BlockIds:
    """Ids of the blocks of each turn: those of a shared text from 0, then of each conversation its own.

    A last block that a turn fills in part has the id that it keeps when the next turn goes on with the same text.

    Args:
        session: number of the conversation of each turn, from 0, shape (n,).
        firsts: where the conversations begin, shape (num_sessions,).
        total: tokens of prompt and output of each turn, rising within a conversation, shape (n,).
        block_tokens: tokens of a block.
        shared_tokens: length of the text with which all conversations begin.
    """
    counts = -(-total // block_tokens)
    shared = shared_tokens // block_tokens
    most = counts[np.append(firsts[1:], len(counts)) - 1]  # of the last turn
    shift = offsets_of(most - shared)[:-1]
    offsets = offsets_of(counts)
    ids = np.arange(offsets[-1])
    ids += np.repeat(shift[session] - offsets[:-1], counts)
    ids[offsets[:-1, None] + np.arange(shared)] = np.arange(shared)
    return BlockIds(ids, offsets, block_tokens)


def _stream(seed: int, key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(key,))))
