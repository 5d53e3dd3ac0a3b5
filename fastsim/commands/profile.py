"""``fastsim profile``: measure a model's operators on the device at hand, and make a device to simulate of it."""

import contextlib
import json
import re
import runpy
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from fastsim.commands.parsing import Parser, flag
from fastsim.errors import ConfigError
from fastsim.options import integer

if TYPE_CHECKING:
    from estimators.profiler import Progress

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_EXAMPLES = """examples:
  fastsim profile --model Llama-3.1-8B --out my-gpu                    measure for five minutes at most
  fastsim profile --model config.json --device cpu --out my-cpu --budget 60s
  fastsim run --model Llama-3.1-8B --device my-gpu                     simulate what was measured
A profile that was stopped goes on when the same command is given again."""


@dataclass
class ProfileCommand:
    """Flags of ``fastsim profile``."""

    model: Optional[str] = flag(None, "name, or path of a Hugging Face config.json")
    device: str = flag("auto", "what to measure: auto, cpu, cuda or cuda:1")
    tensor_parallel: str = flag(
        "1", "GPUs that share each layer, with commas; all measured on one", "--tp", "--tensor-parallel"
    )
    dtype: Optional[str] = flag(None, "of the weights, with commas (default: all that the device multiplies in)")
    out: Optional[str] = flag(None, "directory to write, the device of later runs")
    budget: str = flag("5m", "how long to measure: 300, 300s, 5m or 1h")
    target: str = flag("5%", "mean error of every operator on points held out, at which measuring ends")
    max_tokens: int = flag(2048, "tokens in one iteration")
    max_num_seqs: int = flag(128, "requests in one iteration")
    max_model_len: int = flag(8192, "tokens of the longest request")
    block_size: int = flag(16, "tokens per KV block")
    seed: int = flag(0, "of the operands, the choice of points and the regressors")
    engine: Optional[str] = flag(None, "FILE.py:NAME of an engine whose CPU times are measured, too")
    json: bool = flag(False, "print one JSON object, and nothing else")


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    parser = Parser(ProfileCommand, "profile", "Measure a model's operators on the device at hand.", _EXAMPLES)
    command: ProfileCommand = parser.parse_args(list(words))
    for name, example in (("model", "Llama-3.1-8B"), ("out", "my-gpu")):
        if getattr(command, name) is None:
            raise ConfigError(name, None, "is not given", f"write --{name}, such as --{name} {example}")
    from fastsim.result import writable_directory

    out = writable_directory(command.out or "")
    asked = _asked(command)
    from estimators.profiler import profile

    bar = _Bar()
    try:
        report = profile(command.model or "", out, progress=None if command.json else bar, **asked)
    except KeyboardInterrupt:
        bar.close()  # before the sentence
        again = shlex.join(["fastsim", "profile", *words])
        print(
            f"fastsim: interrupted; what was measured is kept in {out}, and {again} goes on from there.",
            file=sys.stderr,
        )
        return 130
    finally:
        bar.close()
    if command.json:
        print(json.dumps(asdict(report), default=str))
    else:
        from fastsim.commands.profile_report import render

        print(render(report, command.model or ""))
    return 0


def _asked(command: ProfileCommand) -> dict[str, Any]:
    """The arguments of ``estimators.profiler.profile``, read from text."""
    from estimators.profiler import Limits

    names = ("max_tokens", "max_num_seqs", "max_model_len", "block_size")
    return {
        "device": command.device,
        "tp": [integer("tensor_parallel", each) for each in command.tensor_parallel.split(",")],
        "dtypes": None if command.dtype is None else command.dtype.split(","),
        "budget_s": _seconds(command.budget),
        "target": _share(command.target),
        "limits": Limits(**{name: integer(name, getattr(command, name)) for name in names}),
        "seed": integer("seed", command.seed),
        "engine": None if command.engine is None else _engine(command.engine),
    }


def _engine(text: str) -> Any:
    """The object of FILE.py:NAME, or what it makes where it is a class or a function without arguments."""
    path, _, name = text.rpartition(":")
    mend = "give FILE.py:NAME of an object with host_times(batch, repeats), or of what makes one"
    if not path.endswith(".py") or not Path(path).is_file():
        raise ConfigError("engine", text, "names no file of Python", mend)
    found = runpy.run_path(path).get(name)
    if isinstance(found, type) or (callable(found) and not hasattr(found, "host_times")):
        found = found()
    if not hasattr(found, "host_times"):
        raise ConfigError("engine", text, "has no host_times", mend)
    return found


def _seconds(text: str) -> float:
    """Seconds of 300, 300s, 5m or 1h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|min|h)?", text.strip())
    if found is None or float(found[1]) == 0:
        raise ConfigError("budget", text, "is no time to measure for", "give one such as 300, 300s, 5m or 1h")
    return float(found[1]) * _UNITS[found[2] or ""]


def _share(text: str) -> float:
    """A share of 5% or 0.05."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(%)?", text.strip())
    share = None if found is None else float(found[1]) / (100 if found[2] else 1)
    if share is None or not 0 < share < 1:
        raise ConfigError("target", text, "is no error to reach", "give one such as 5% or 0.05")
    return share


class _Bar:
    """A bar on stderr of the budget that is spent, from the first batch on; none where its library is missing."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, state: "Progress") -> None:
        if self._bar is None:
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                shape = "{desc} |{bar:20}| {n:.0f} of {total:.0f} s{postfix}"
                self._bar = tqdm(desc="measuring", total=state.budget_s, bar_format=shape, leave=False, file=sys.stderr)
        if self._bar is not None:
            self._bar.n = min(state.spent_s, state.budget_s)
            worst = "" if state.error is None else f", {state.worst} errs {state.error:.1%}"
            self._bar.set_postfix_str(f"{state.points:,} points{worst}")

    def close(self) -> None:
        """Leave nothing on the screen."""
        if self._bar is not None:
            self._bar.close()
