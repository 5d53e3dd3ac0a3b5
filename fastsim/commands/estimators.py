"""``fastsim estimators {list,show,train}``: the operator estimators behind the tables."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from fastsim.commands.guard import written_by_fastsim
from fastsim.commands.parsing import Parser, flag, refuse_flags
from fastsim.commands.train_profiles import SOURCES, read_source
from fastsim.config_checks import EXPERT_EXCHANGES, EXPERT_LOADS
from fastsim.errors import ConfigError
from fastsim.options import integer

_ACTIONS = "list, show or train"
#: Flags that mean something to some actions only; all else goes with each.
_OF_ACTION: Mapping[str, Sequence[str]] = {
    "model": ("show of a model", "train"),
    "gpu": ("show of a model",),
    "plot": ("show", "train"),
    "zoo": ("list", "show"),
    "tensor_parallel": ("show of a model", "train"),
    "data_parallel": ("show of a model",),
    "expert_parallel": ("show of a model",),
    "expert_load": ("show of a model",),
    "expert_exchange": ("show of a model",),
    "kv_dtype": ("show of a model",),
    "decodes": ("show of a model",),
    "kv": ("show of a model",),
    "chunks": ("show of a model",),
    "tokens": ("show of a model",),
    "out": ("train",),
    "source": ("train",),
    "directory": ("train",),
    "backend": ("train",),
    "version": ("train",),
    "kind": ("train",),
    "seed": ("train",),
}
_LARGEST_SEED = 2**32 - 1  # that scikit-learn takes
_EXAMPLES = """examples:
  fastsim estimators show --device h100_sxm                           errors of every operator
  fastsim estimators show --device h100_sxm --plot errors.html        the same as pictures
  fastsim estimators show Llama-3.1-8B h100_sxm --decodes 64          what an iteration consists of
  fastsim estimators train --device h100_sxm --out zoo                train them anew
  fastsim estimators train --device h100_sxm --out zoo --source own --directory DIR
                                                                      from one's own measurements"""


@dataclass
class EstimatorsCommand:
    """Flags of ``fastsim estimators``."""

    action: str = flag("list", _ACTIONS, "action")
    model: Optional[str] = flag(
        None, "show: what an iteration of this model consists of; train: the model that was profiled", "model"
    )
    gpu: Optional[str] = flag(None, "show: on this GPU, as --device", "gpu")
    device: Optional[str] = flag(None, "GPU, or directory of a profile; list and show take all when it is not given")
    dtype: Optional[str] = flag(
        None, "of weights or KV cache: bf16, fp8, ...; list and show take all, of a model auto, train bf16"
    )
    plot: Optional[str] = flag(None, "show, train: also draw predicted over measured into this HTML file")
    zoo: Optional[str] = flag(None, "list and show: look in this directory, as train writes it")
    tensor_parallel: int = flag(
        1, "show MODEL: GPUs that share each layer; train: tpN of layerwise profiles", "--tp", "--tensor-parallel"
    )
    data_parallel: int = flag(1, "show MODEL: engines that share experts", "--dp", "--data-parallel")
    expert_parallel: int = flag(1, "show MODEL: GPUs with whole experts: 1, or tp x dp", "--ep", "--expert-parallel")
    expert_load: str = flag(EXPERT_LOADS[0], f"show MODEL: {', '.join(EXPERT_LOADS)}")
    expert_exchange: str = flag(EXPERT_EXCHANGES[0], f"show MODEL: {', '.join(EXPERT_EXCHANGES)}")
    kv_dtype: str = flag("auto", "show MODEL: of the KV cache")
    decodes: Optional[int] = flag(None, "show MODEL: decodes of the batch (default: 64, or none beside chunks)")
    kv: Optional[int] = flag(None, "show MODEL: tokens that they read together (default: 1024 each)")
    chunks: Optional[str] = flag(
        None, "show MODEL: chunks of prompts: 512, or 2048:512 behind 2048 tokens, with commas"
    )
    tokens: Optional[int] = flag(None, "show MODEL: tokens of the batch with padding (default: without)")
    out: Optional[str] = flag(None, "train: directory of the new zoo")
    source: str = flag("aiconfigurator", f"train: whose profiles: {', '.join(SOURCES)}")
    directory: Optional[str] = flag(None, "train: where the profiles are, but for aiconfigurator's")
    backend: Optional[str] = flag(None, "train: engine of aiconfigurator's profiles: vllm (default), sglang or trtllm")
    version: Optional[str] = flag(None, "train: of that engine (default: the newest measured)")
    kind: str = flag("forest", "train: forest, boosted, polynomial, linear, or auto for the best of each operator")
    seed: int = flag(0, "train: of the regressors and of the held-out splits")
    json: bool = flag(False, "print one JSON object, and nothing else")


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    parser = Parser(EstimatorsCommand, "estimators", "List, show or train the operator estimators.", _EXAMPLES)
    command: EstimatorsCommand = parser.parse_args(list(words))
    actions = {"list": _list, "show": _show, "show of a model": _show_model, "train": _train}
    action = "show of a model" if command.action == "show" and command.model is not None else command.action
    if action not in actions:
        raise ConfigError("action", action, "is not known", f"choose {_ACTIONS}")
    refuse_flags(command, action, _OF_ACTION)
    actions[action](command)
    return 0


def _list(command: EstimatorsCommand) -> None:
    """Print which estimators there are."""
    _, entries = _entries(command)
    text = "\n".join(f"{device:16}{dtype}" for device, dtype in entries)
    _print(command, [{"device": device, "dtype": dtype} for device, dtype in entries], text)


def _show(command: EstimatorsCommand) -> None:
    """Print, and draw, how good the estimators are."""
    from estimators.estimator import describe
    from fastsim.commands.estimator_report import render

    plot = _plot(command)
    zoo, entries = _entries(command)
    with written_by_fastsim("zoo", str(zoo or "fastsim's own")):
        reports = {f"{device} {dtype}": describe(device, dtype, zoo) for device, dtype in entries}
        if plot is not None:
            _draw(plot, reports)
        text = "\n\n".join(render(name, report) for name, report in reports.items())
    _print(command, reports, text)


def _show_model(command: EstimatorsCommand) -> None:
    """Print what an iteration of a model consists of."""
    from estimators.build import Deployment
    from estimators.lookup import operation_times
    from fastsim.commands import operation_report

    device = command.gpu or command.device
    if command.gpu is not None and command.device not in (None, command.gpu):
        wrong = f"is not {command.gpu}, which is asked for, too"
        raise ConfigError("device", command.device, wrong, "give one of them")
    if device is None:
        raise ConfigError("device", None, "is not given", f"write fastsim estimators show {command.model} h100_sxm")
    assert command.model is not None
    batch = operation_report.batch_of(command.tokens, command.decodes, command.kv, command.chunks)
    tp, dp, ep = (
        integer(name, getattr(command, name)) for name in ("tensor_parallel", "data_parallel", "expert_parallel")
    )
    deployment = Deployment(
        tp=tp,
        dtype=command.dtype or "auto",
        kv_dtype=command.kv_dtype,
        data_parallel=dp,
        expert_parallel=ep,
        expert_load=command.expert_load,
        expert_exchange=command.expert_exchange,
    )
    rows = operation_times(command.model, device, deployment, **batch)
    title = f"{command.model} on {tp * dp} {device}"
    data, text = operation_report.as_data(title, batch, rows), operation_report.render(title, batch, rows)
    _print(command, data, text)


def _train(command: EstimatorsCommand) -> None:
    """Train the estimators of a device from measured profiles, and report their held-out errors."""
    from estimators import load_device
    from estimators.train import train
    from fastsim.commands.estimator_report import render
    from fastsim.result import writable_directory

    if command.device is None or command.out is None:
        missing = "device" if command.device is None else "out"
        raise ConfigError(missing, None, "is not given", f"write --{missing}, such as --device h100_sxm --out zoo")
    out, plot = writable_directory(command.out), _plot(command)
    seed = integer("seed", command.seed)
    if not 0 <= seed <= _LARGEST_SEED:
        raise ConfigError("seed", seed, "is no seed of a regressor", f"give 0 to {_LARGEST_SEED}")
    dtype = command.dtype or "bf16"
    report = train(
        command.device,
        dtype,
        out,
        seed,
        lambda line: print(f"fastsim: {line}", file=sys.stderr),
        command.backend or "vllm",
        command.version,
        command.kind,
        read_source(command, dtype),
    )
    name = f"{load_device(command.device).name} {dtype}"
    if plot is not None:
        _draw(plot, {name: report})
    _print(command, {name: report}, render(name, report))


def _entries(command: EstimatorsCommand) -> tuple[Path | None, list[tuple[str, str]]]:
    """The zoo, None for the package's, and device and dtype of its entries that are asked for.

    Of a device that is the directory of a profile the zoo is its own.

    Raises:
        ConfigError: there are none.
        estimators.EstimatorError: the directory is that of no finished profile.
    """
    from estimators import load_device
    from estimators.device_file import own_zoo
    from estimators.estimator import list_zoo

    if command.zoo is not None and not Path(command.zoo).is_dir():
        raise ConfigError("zoo", command.zoo, "is no directory", "give one that fastsim estimators train has written")
    zoo = None if command.zoo is None else Path(command.zoo)
    device = None if command.device is None else command.device.lower()
    if command.device is not None and Path(command.device).is_dir():
        spec = load_device(command.device)
        device = spec.name
        if zoo is None and spec.directory is not None:
            zoo = own_zoo(spec.directory)
    known = list_zoo(zoo)
    entries = [entry for entry in known if device in (None, entry[0]) and command.dtype in (None, entry[1])]
    if not entries:
        names = ", ".join(f"{name} {dtype}" for name, dtype in known) or "nothing"
        asked = f"{command.device or 'any GPU'} {command.dtype or 'in any dtype'}"
        raise ConfigError("device", asked, "has no estimators", f"choose one of {names}")
    return zoo, entries


def _plot(command: EstimatorsCommand) -> Path | None:
    """The file to draw into, which can be written."""
    from fastsim.svg import check_html

    if command.plot is None:
        return None
    check_html("plot", Path(command.plot))
    return Path(command.plot)


def _draw(path: Path, reports: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    from fastsim.commands.estimator_report import STYLE, draw
    from fastsim.svg import write_page

    write_page(path, "Estimators", [part for name, report in reports.items() for part in draw(name, report)], STYLE)


def _print(command: EstimatorsCommand, data: Any, text: str) -> None:
    print(json.dumps(data) if command.json else text)
