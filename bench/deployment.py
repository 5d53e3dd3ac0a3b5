"""From what a measured run of vLLM recorded to the configuration and the tables that repeat it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from measured import Measured, part_of

from estimators import IterationTables, ModelSpec, load_device, load_model
from estimators.layerwise import layerwise_tables
from estimators.models import model_names
from estimators.sources.all_reduce import read_all_reduce, read_exchange
from fastsim import SimulationConfig
from fastsim.engine_presets import ENGINES, NO_GRAPHS, Engine, engine_of_vllm
from fastsim.errors import ConfigError
from fastsim.memory import plan_memory

#: vLLM's names of types -> ours.
DTYPES = {"auto": "bf16", "bfloat16": "bf16", "float16": "bf16", "half": "bf16"}
#: Tables and KV blocks are given, so a GPU that we do not know can be stood in for by any other.
STAND_IN = "h100_sxm"
#: vLLM's defaults from this memory on (A100s aside), and below it: tokens of a batch, requests of a batch.
LARGE_GPU_BYTES, OF_LARGE, OF_SMALL = 70 << 30, (8192, 1024), (2048, 256)
#: More of its defaults.
SCHEDULER_DEFAULTS = {
    "long_prefill_token_threshold": 0,
    "enable_chunked_prefill": True,
    "enable_prefix_caching": True,
}


@dataclass(frozen=True)
class Deployment:
    """What repeats a run.

    Attributes:
        config: its settings.
        tables: iteration times.
        assumptions: what was not recorded, and what was taken in its place.
    """

    config: SimulationConfig
    tables: IterationTables
    assumptions: tuple[str, ...]


class Settings:
    """The engine settings of a run: as asked for, else as the engine resolved them, else vLLM's defaults."""

    def __init__(self, meta: Mapping[str, Any]) -> None:
        """``meta`` is ``meta.json``."""
        resolved = part_of(meta, "resolved_config").values()
        # An engine may resolve the parallelism of its own process only; a block size may not be what was asked for.
        first = [part_of(meta, "kv_cache"), part_of(meta, "engine_kwargs")]
        self._recorded = [*first, *(part for part in resolved if isinstance(part, Mapping))]
        self.assumptions: list[str] = []

    def recorded(self, name: str) -> Any:
        """A recorded setting, or None."""
        return next((part[name] for part in self._recorded if part.get(name) is not None), None)

    def recorded_count(self, name: str) -> int | None:
        """A recorded number of something, or None.

        Raises:
            ConfigError: it is no whole number from 1 on.
        """
        value = self.recorded(name)
        if value is not None and (type(value) is not int or value < 1):
            raise ConfigError(name, value, "of meta.json is no whole number from 1 on", "give one")
        return value

    def count(self, name: str, default: int, why: str = "vLLM's default") -> int:
        """A number of something; see `recorded_count` and `__call__`."""
        return self.recorded_count(name) or int(self(name, default, why))

    def __call__(self, name: str, default: Any, why: str = "vLLM's default") -> Any:
        """A setting; what is not recorded is taken as ``default``, and noted."""
        if (value := self.recorded(name)) is None:
            self.assumptions.append(f"{name} = {default} ({why})")
            return default
        return value


def deployment_of(run: Measured, profiles: Path) -> Deployment:
    """Find the settings of a run and build its tables.

    Args:
        run: what was recorded.
        profiles: a directory with layerwise profiles, and aiconfigurator's for several GPUs, anywhere below.

    Raises:
        ConfigError: the run's settings are not simulated.
        estimators.EstimatorError: there is no profile of its GPU and model.
    """
    settings = Settings(run.meta)
    settings.assumptions += run.notes
    model_path = _model_path(run.model, profiles)
    model = load_model(model_path)
    config = _configuration(run, settings, model_path, model)
    if config.num_kv_blocks is None:
        config = config.with_fields(num_kv_blocks=_planned_blocks(run, config, model, settings))
    tables = _tables(run, config, model, profiles)
    return Deployment(config, tables, tuple(settings.assumptions))


def _configuration(run: Measured, settings: Settings, model_path: str, model: ModelSpec) -> SimulationConfig:
    engine, engine_options = engine_of_vllm(str(run.meta.get("vllm_version") or ""))
    if not run.meta.get("vllm_version"):
        settings.assumptions.append(f"the rules of {engine} (vllm_version is not recorded)")
    scheduler_options = _scheduler_options(run, settings)
    engine_options |= _engine_options(settings, ENGINES[engine], scheduler_options)
    tp = settings.count("tensor_parallel_size", run.tp)
    dp = settings.count("data_parallel_size", 1)
    return SimulationConfig(
        model=model_path,
        device=STAND_IN,
        tensor_parallel=tp,
        pipeline_parallel=settings.recorded_count("pipeline_parallel_size") or 1,
        data_parallel=dp,
        # vLLM takes the flag for dense models, too, to no effect.
        expert_parallel=tp * dp if settings("enable_expert_parallel", False) and model.experts is not None else 1,
        max_model_len=settings.count("max_model_len", model.max_position_embeddings, "the model's"),
        dtype=_dtype(settings("dtype", "auto")),
        kv_dtype=_kv_dtype(settings("kv_cache_dtype", "auto")),
        gpu_memory_utilization=settings("gpu_memory_utilization", 0.92 if engine == "vllm-head" else 0.9),
        num_kv_blocks=_recorded_blocks(settings, dp),
        block_size=settings.count("block_size", 16),
        scheduler_options=scheduler_options,
        engine=engine,
        engine_options=engine_options,
    )


def _scheduler_options(run: Measured, settings: Settings) -> dict[str, Any]:
    large = (run.gpu_memory_bytes or 0) >= LARGE_GPU_BYTES and "a100" not in run.hardware.lower()
    tokens, sequences = OF_LARGE if large else OF_SMALL
    tokens = settings.count("max_num_batched_tokens", tokens)
    sequences = settings.count("max_num_seqs", min(sequences, tokens))
    options: dict[str, Any] = {"max_num_batched_tokens": tokens, "max_num_seqs": sequences}
    for field, default in SCHEDULER_DEFAULTS.items():
        options[field] = settings(field, default)
    if (gate := settings.recorded("scheduler_reserve_full_isl")) is not None:
        options["scheduler_reserve_full_isl"] = gate
    return options


def _engine_options(settings: Settings, engine: Engine, scheduler_options: Mapping[str, Any]) -> dict[str, Any]:
    """What a run records about its engine that differs from the preset; sizes of CUDA graphs are compared only."""
    # The record's stamps are those of the engine's process, and its fastest request defines the arrival.
    options: dict[str, Any] = {"ingress_s": 0.0, "ingress_s_per_token": 0.0, "egress_s": 0.0}
    if (value := settings.recorded("async_scheduling")) is not None:
        options["async_scheduling"] = bool(value)
    sizes = settings.recorded("cudagraph_capture_sizes")
    if settings.recorded("enforce_eager") or sizes == []:
        options["capture_sizes"] = NO_GRAPHS
    elif sizes:
        assumed = engine.padded_sizes(scheduler_options["max_num_seqs"], scheduler_options["max_num_batched_tokens"])
        if tuple(sorted(sizes)) != assumed:
            settings.assumptions.append(f"CUDA graphs of {len(assumed)} sizes to {assumed[-1]} (the preset's)")
    return options


def _recorded_blocks(settings: Settings, engines: int) -> int | None:
    """KV blocks of one engine as recorded, or None: what vLLM records is the sum over its data-parallel engines."""
    blocks = settings.recorded_count("num_gpu_blocks")
    if blocks is None or engines == 1:
        return blocks
    settings.assumptions.append(f"{blocks // engines} KV blocks of each of {engines} engines (all have {blocks})")
    return blocks // engines


def _dtype(name: str) -> str:
    plain = str(name).removeprefix("torch.")
    return DTYPES.get(plain, plain)


def _kv_dtype(name: str) -> str:
    return "auto" if name == "auto" else _dtype(name)


def _model_path(name: str, profiles: Path) -> str:
    """A name that is built in, or the configuration of that name below ``profiles``."""
    base = name.rpartition("/")[2].lower()
    if known := [known for known in model_names() if base == known.lower().rpartition("/")[2]]:
        return known[0]
    found = sorted(path for path in profiles.rglob("*.json") if path.stem.lower() == base)
    if not found:
        raise ConfigError("model", name, f"is not known, and {profiles} holds no {base}.json", "give its config.json")
    return str(found[0])


def _planned_blocks(run: Measured, config: SimulationConfig, model: ModelSpec, settings: Settings) -> int:
    """KV blocks by our memory planner."""
    if run.gpu_memory_bytes is None:
        wrong = "is not recorded, nor is the memory of the GPU"
        raise ConfigError("num_gpu_blocks", None, wrong, "give kv_cache.num_gpu_blocks in meta.json")
    device = replace(load_device(STAND_IN), memory_bytes=run.gpu_memory_bytes)
    blocks = plan_memory(config, model, device).num_blocks
    settings.assumptions.append(f"num_gpu_blocks = {blocks} (memory planner, good to 5 %)")
    return blocks


def _tables(run: Measured, config: SimulationConfig, model: ModelSpec, profiles: Path) -> IterationTables:
    tp, policy = config.tensor_parallel, config.batch_policy
    all_reduce = None
    if tp > 1:
        all_reduce = read_all_reduce(profiles, run.hardware, tp, str(run.meta.get("vllm_version") or ""))
    return layerwise_tables(
        _profile(run.hardware, run.model, tp, profiles),
        model,
        tp,
        max_tokens=policy.max_num_batched_tokens,
        max_sequences=policy.max_num_seqs,
        max_model_len=config.max_model_len,
        all_reduce=all_reduce,
        **_shared_experts(run, config, model, profiles),
    )


def _shared_experts(run: Measured, config: SimulationConfig, model: ModelSpec, profiles: Path) -> dict[str, Any]:
    """What the tables of a model with experts need to know of the engines that share them."""
    if model.experts is None:
        return {}
    engines, gpus = config.data_parallel, config.tensor_parallel * config.data_parallel
    return {
        "data_parallel": engines,
        "expert_parallel": config.expert_parallel,
        "exchange": read_exchange(profiles, run.hardware, gpus) if engines > 1 else None,
    }


def _profile(hardware: str, model: str, tp: int, profiles: Path) -> Path:
    """The directory of a layerwise profile: that of a ``meta.yaml`` about this GPU and model, with ``tpN`` if any has.

    Raises:
        ConfigError: there is none.
    """
    found = [meta.parent for meta in _about(hardware, model, profiles)]
    if not found:
        wrong = f"holds no layerwise profile of {model} on {hardware}"
        raise ConfigError("profiles", str(profiles), wrong, "give a directory with HARDWARE/MODEL/meta.yaml below it")
    return next((folder for folder in found if (folder / f"tp{tp}").is_dir()), found[0])


def _about(hardware: str, model: str, profiles: Path) -> Iterator[Path]:
    base = model.rpartition("/")[2].lower()
    for meta in sorted(profiles.rglob("meta.yaml")):
        parts = [part.lower() for part in meta.resolve().parent.parts]
        if hardware.lower() in parts and base in parts:
            yield meta
