"""What operators work on, while they are timed: weights and caches that come from memory, as they do in an engine.

Between two uses of a layer's weights an engine runs all other layers, so that no cache holds them any more, while
activations were written by the operator before. So a timed operator goes round ``copies`` sets of weights, which
together are four times as large as the last-level cache, and has one set of activations. This stands in for a flush of
the cache, on CPUs and GPUs alike; a flush would make activations cold as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from estimators.profiler.hardware import Hardware, MemoryShortError

# Caches' worth of operands. Of twice a cache, gone round in turn, one that evicts at random still holds a fifth.
OVERFLOW = 4
_MOST_COPIES = 1024
_SHARE = 0.9  # of free memory: results and the libraries' work space take the rest
_stores: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}


def copies_of(hardware: Hardware, num_bytes: int) -> int:
    """Sets of operands of so many bytes that overflow the cache together."""
    return max(1, min(_MOST_COPIES, -(-OVERFLOW * hardware.cache_bytes // max(num_bytes, 1))))


def views(hardware: Hardware, dtype: torch.dtype, shape: tuple[int, ...], copies: int, seed: int) -> torch.Tensor:
    """Random numbers between -1 and 1, (copies, *shape).

    All operators of a type look at the same memory, which is kept from call to call: what they hold is never written,
    but for caches of keys and values, whose values no kernel's time depends on.

    Raises:
        MemoryShortError: where there is not enough memory.
    """
    numbers = copies * torch.Size(shape).numel()
    key = (hardware.device, dtype)
    store = _stores.get(key)
    if store is None or store.numel() < numbers:
        del store
        _stores.pop(key, None)
        check_memory(hardware, numbers * dtype.itemsize)
        generator = torch.Generator(hardware.device).manual_seed(seed)
        _stores[key] = store = _random(numbers, dtype, generator)
    return store[:numbers].view(copies, *shape)


def block_tables(hardware: Hardware, blocks: Sequence[int], copies: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Where the blocks of requests lie, anywhere in a cache that holds those of all copies, each block once.

    Args:
        hardware: where.
        blocks: of each request.
        copies: batches of such requests.
        seed: of the places.

    Returns:
        For each copy int32 (requests, blocks of the longest), with 0 behind a request's own.
    """
    generator = torch.Generator().manual_seed(seed)
    tables = torch.zeros(copies, len(blocks), max(blocks), dtype=torch.int32)
    own = torch.arange(max(blocks)) < torch.tensor(blocks).unsqueeze(1)
    tables[own.expand_as(tables)] = torch.randperm(copies * sum(blocks), generator=generator).to(torch.int32)
    placed: torch.Tensor = tables.to(hardware.device)
    return tuple(placed)


def activations(hardware: Hardware, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Random numbers between -1 and 1 of their own."""
    check_memory(hardware, torch.Size(shape).numel() * dtype.itemsize)
    return torch.rand(shape, device=hardware.device).mul_(2).sub_(1).to(dtype)


def check_memory(hardware: Hardware, num_bytes: int) -> None:
    """Refuse what would not fit beside what is there.

    Raises:
        MemoryShortError: naming both.
    """
    free = hardware.free_bytes()
    if num_bytes > _SHARE * free:
        wrong = f"does not fit: {free / 1e9:.1f} GB of {hardware.spec.name} are free"
        raise MemoryShortError("operands", f"of {num_bytes / 1e9:.1f} GB", wrong, "measure smaller points")


def release() -> None:
    """Give the kept memory back."""
    _stores.clear()


def _random(numbers: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Random bits matter: a GPU multiplies zeros faster, for it draws less power."""
    target = torch.empty(numbers, dtype=dtype, device=generator.device)
    step = 1 << 26
    for start in range(0, numbers, step):
        part = target[start : start + step]
        if dtype.itemsize > 1:
            part.uniform_(-1, 1, generator=generator)
        else:
            part.copy_(torch.rand(len(part), device=part.device, generator=generator).mul_(2).sub_(1))
    return target
