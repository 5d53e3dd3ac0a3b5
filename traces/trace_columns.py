"""Choices that take one side of a request file: its lengths, or its arrivals."""

import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from traces.errors import MAX_TOKENS, TraceError, real_number, shown, whole_number
from traces.files import check_header, contents, decompressed, file_error

if TYPE_CHECKING:
    import polars as pl

#: Columns of prompt and output tokens, of files that are known.
_LENGTHS: Final = (("num_prefill_tokens", "num_decode_tokens"), ("ContextTokens", "GeneratedTokens"))
#: Columns of arrivals, in seconds or as timestamps.
_SECONDS: Final = ("arrived_at",)
_TIMESTAMPS: Final = ("arrival_time", "TIMESTAMP")


@dataclass(frozen=True)
class TraceLengths:
    """Lengths of requests of a file, drawn with replacement; prompt and output stay together.

    Attributes:
        path: a CSV file, plain or gzip, with the columns num_prefill_tokens and num_decode_tokens, or those of Azure's.
        prompt_scale: what prompts are multiplied with; the result is cut to an integer, at least 1.
        output_scale: the same for outputs.
        max_total: most tokens of both together: what is above is taken from both in proportion. 0 cuts nothing.
    """

    path: str
    prompt_scale: float = 1.0
    output_scale: float = 1.0
    max_total: int = 0

    def __post_init__(self) -> None:
        """Read the file once to check it; raises TraceError."""
        object.__setattr__(self, "path", path_text(self.path))
        for name in ("prompt_scale", "output_scale"):
            object.__setattr__(self, name, real_number(name, getattr(self, name), 1e-6, 1e6))
        object.__setattr__(self, "max_total", whole_number("max_total", self.max_total, 0))
        if self.max_total == 1:
            raise TraceError("max_total", 1, "is 1", "give 2 or more, or 0 to cut nothing")
        _lengths(self.path, version_of(self.path))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Prompt and output tokens, each of shape (n,)."""
        prompt, output = scaled(*_lengths(self.path, version_of(self.path)), self.prompt_scale, self.output_scale)
        if self.max_total:
            prompt, output = cut_in_proportion(prompt, output, self.max_total)
        drawn = rng.integers(0, len(prompt), n)
        return prompt[drawn], output[drawn]


@dataclass(frozen=True)
class TraceArrivals:
    """Arrivals of a file, from its second row on, counted from the first: intervals, as every other choice has them.

    Attributes:
        path: a CSV file, plain or gzip, with a column arrived_at (seconds), or arrival_time or TIMESTAMP (timestamps).
        start: rows at or before this timestamp are left out; empty for none. Timestamps only.
        end: rows at or after this timestamp are left out; empty for none. Timestamps only.
        time_scale: what times are multiplied with, 1e-9 to 1e9.
    """

    path: str
    start: str = ""
    end: str = ""
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        """Read the file once to check it; raises TraceError."""
        object.__setattr__(self, "path", path_text(self.path))
        for name in ("start", "end"):
            if not isinstance(value := getattr(self, name), str):
                raise TraceError(name, value, f"is {shown(value)}", "give a timestamp such as 2021-01-31 12:00:00")
        object.__setattr__(self, "time_scale", real_number("time_scale", self.time_scale, 1e-9, 1e9))
        self.times_s()

    def times_s(self) -> NDArray[np.float64]:
        """All arrivals in seconds, nondecreasing."""
        return _arrivals(self.path, version_of(self.path), self.start, self.end) * self.time_scale

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Arrival times in seconds, shape (n,); draws nothing.

        Raises:
            TraceError: the file holds fewer: it is never looped.
        """
        times_s = self.times_s()
        if n > len(times_s):
            problem = f"is {shown(self.path)}, which holds {len(times_s)} arrivals where {n} are asked for"
            raise TraceError("path", self.path, problem, f"ask for at most {len(times_s)} requests")
        return times_s[:n]


def scaled(
    prompt: NDArray[np.int64], output: NDArray[np.int64], prompt_scale: float, output_scale: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lengths, each of shape (n,), multiplied, cut to integers, at least 1."""
    return (
        np.clip(prompt * prompt_scale, 1, MAX_TOKENS).astype(np.int64),
        np.clip(output * output_scale, 1, MAX_TOKENS).astype(np.int64),
    )


def cut_in_proportion(
    prompt: NDArray[np.int64], output: NDArray[np.int64], max_total: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lengths, each of shape (n,), with prompt + output <= max_total; both lose in proportion, and keep 1 at least."""
    total = prompt + output
    kept = np.minimum(1.0, max_total / total)
    output = np.clip((output * kept).astype(np.int64), 1, max_total - 1)
    return np.clip((prompt * kept).astype(np.int64), 1, max_total - output), output


def path_text(given: object) -> str:
    """A path as text; raises TraceError where it is none."""
    if not isinstance(given, str | os.PathLike):
        raise TraceError("path", given, f"is {shown(given)}", "give the path of a CSV file")
    return os.fspath(given)


def version_of(path: str) -> tuple[int, int] | None:
    """What changes when a file is written again, so that nothing is kept of the one before; None of no file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=8)
def _lengths(path: str, version: tuple[int, int] | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Prompt and output tokens of a file, each of shape (rows,)."""
    import polars as pl

    frame = _read(path)
    for columns in _LENGTHS:
        if set(columns) <= set(frame.columns):
            break
    else:
        raise file_error(path, "has no columns of lengths", f"name them {' and '.join(_LENGTHS[0])}")
    tokens = frame.select(pl.col(name).str.strip_chars().cast(pl.Float64, strict=False) for name in columns)
    for name in columns:
        good = tokens[name].is_between(0, MAX_TOKENS).fill_null(False)
        if not good.all():
            row = int((~good).arg_max() or 0)
            problem = f"is {shown(frame[name][row])} on line {row + 2} of {path}"
            raise TraceError(name, frame[name][row], problem, f"give a number from 0 to {MAX_TOKENS}")
    prompt, output = (tokens[name].to_numpy().astype(np.int64) for name in columns)
    return prompt, output


@functools.lru_cache(maxsize=8)
def _arrivals(path: str, version: tuple[int, int] | None, start: str, end: str) -> NDArray[np.float64]:
    """Seconds after the first arrival of each later one, shape (rows - 1,), nondecreasing."""
    import polars as pl

    frame = _read(path)
    name = next((name for name in (*_SECONDS, *_TIMESTAMPS) if name in frame.columns), None)
    if name is None:
        raise file_error(path, "has no column of arrivals", f"name it {', '.join((*_SECONDS, *_TIMESTAMPS))}")
    if name in _SECONDS:
        times = frame[name].str.strip_chars().cast(pl.Float64, strict=False)
    else:
        times = _timestamps(frame[name])
    if times.null_count():
        row = int(times.is_null().arg_max() or 0)
        raise TraceError(
            name, frame[name][row], f"is {shown(frame[name][row])} on line {row + 2} of {path}", "correct it"
        )
    if (start or end) and name in _SECONDS:
        raise TraceError("start", start or end, f"is {shown(start or end)}", f"leave it out, {name} has no dates")
    if start:
        times = times.filter(times > _bound("start", start))
    if end:
        times = times.filter(times < _bound("end", end))
    sorted_times = times.sort().to_numpy()
    if len(sorted_times) < 2:
        raise file_error(path, "holds fewer than two arrivals between start and end", "widen them")
    unit = 1.0 if name in _SECONDS else 1e-9
    return np.asarray((sorted_times[1:] - sorted_times[0]) * unit, dtype=np.float64)


def _bound(field: str, text: str) -> int:
    """Nanoseconds since 1970 of an option."""
    import polars as pl

    nanoseconds = _timestamps(pl.Series([text]))[0]
    if nanoseconds is None:
        raise TraceError(field, text, f"is {shown(text)}", "give a timestamp such as 2021-01-31 12:00:00")
    return int(nanoseconds)


def _timestamps(texts: "pl.Series") -> "pl.Series":
    """Nanoseconds since 1970; null where a text is no timestamp."""
    import polars as pl

    plain = texts.str.strip_chars().str.replace("T", " ").str.strip_suffix("+00:00")
    return plain.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns", strict=False).cast(pl.Int64)


def _read(path: str) -> "pl.DataFrame":
    """A CSV file, every column as text."""
    import polars as pl

    text = decompressed(path, contents(path))
    check_header(path, text.partition(b"\n")[0])
    try:
        frame = pl.read_csv(text, infer_schema=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise file_error(path, f"is no CSV file ({reason})", "give the path of one") from error
    if frame.height == 0:
        raise file_error(path, "holds no requests", "give another file")
    return frame
