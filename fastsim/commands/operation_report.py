"""What one iteration of a model consists of, operator by operator: ``fastsim estimators show MODEL DEVICE``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastsim.errors import ConfigError
from fastsim.options import integer

if TYPE_CHECKING:
    from estimators.lookup import OperationTime

#: The batch where none is asked for: decodes, and the tokens of context of each.
_DECODES, _CONTEXT = 64, 1024
_NAME, _BAR = 25, 16
_INSIDE = {True: "measured range", False: "EXTRAPOLATED", None: ""}


def batch_of(tokens: Any, decodes: Any, kv: Any, chunks: str | None) -> dict[str, Any]:
    """The batch that flags ask for: arguments of `estimators.lookup.operation_times`.

    Args, as text or None:
        tokens: all tokens, padding included.
        decodes: number of decodes.
        kv: tokens that they read together; 1,024 each if not given.
        chunks: ``CHUNK`` or ``HISTORY:CHUNK``, with commas between them.

    Raises:
        ConfigError: naming the flag that is no number.
    """
    pieces = [] if chunks is None else [_chunk(piece) for piece in chunks.split(",")]
    given = None if decodes is None else integer("decodes", decodes)
    number = (0 if pieces else _DECODES) if given is None else given
    if number < 0:
        raise ConfigError("decodes", number, "is no number of decodes", "give 0 or more")
    read = number * _CONTEXT if kv is None else integer("kv", kv)
    total = None if tokens is None else integer("tokens", tokens)
    least = number + sum(chunk for _, chunk in pieces)
    if total is not None and total < least:
        raise ConfigError("tokens", total, f"are less than the {least} of the decodes and chunks", "leave it out")
    return {"decodes": number, "kv": read, "chunks": pieces, "tokens": total}


def _chunk(piece: str) -> tuple[int, int]:
    history, colon, chunk = piece.rpartition(":")
    return integer("chunks", history) if colon else 0, integer("chunks", chunk)


def as_data(title: str, batch: Mapping[str, Any], rows: "Sequence[OperationTime]") -> dict[str, Any]:
    """The look-up as one JSON-able object."""
    total = sum(row.seconds for row in rows)
    return {"title": title, "batch": dict(batch), "iteration_s": total, "operations": [asdict(row) for row in rows]}


def render(title: str, batch: Mapping[str, Any], rows: "Sequence[OperationTime]") -> str:
    """The look-up as text: one line for each operator, in the order of the iteration."""
    lines = [
        f"{title}: {_words(batch)}",
        "",
        f"{'':{_NAME}}{'operator':18}{'type':9}{'calls':>6}{'us each':>9}{'ms':>9}{'share':>7}  {'':{_BAR}}  range",
    ]
    for row in rows:
        bar = "█" * round(max(0.0, row.share) * _BAR)
        lines.append(
            f"{row.name:{_NAME}}{row.operator:18}{row.dtype:9}{row.layers:6g}{row.seconds_each * 1e6:9.1f}"
            f"{row.seconds * 1e3:9.3f}{row.share:7.1%}  {bar:{_BAR}}  {_INSIDE[row.inside]}".rstrip()
        )
    lines.append(f"{'an iteration':67}{sum(row.seconds for row in rows) * 1e3:9.3f}")
    lines += ["", "sources:"]
    for source in dict.fromkeys(row.source for row in rows):
        names = dict.fromkeys(row.operator for row in rows if row.source == source)
        lines.append(f"  {source}: {', '.join(names)}")
    return "\n".join(lines)


def _words(batch: Mapping[str, Any]) -> str:
    """A batch in words."""
    parts = []
    if batch["decodes"]:
        parts.append(f"{batch['decodes']:,} decodes that read {batch['kv']:,} tokens")
    parts += [
        f"a chunk of {chunk:,} tokens" + f" behind {history:,}" * (history > 0) for history, chunk in batch["chunks"]
    ]
    if batch["tokens"] is not None:
        parts.append(f"padded to {batch['tokens']:,} tokens")
    return ", ".join(parts)
