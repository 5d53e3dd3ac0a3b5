"""Reads Vidur's resolved ``config.json`` and says the same in our words; docs/vidur.md has the table of all flags."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from estimators.bounded import parsed_json, read_bounded
from fastsim.errors import ConfigError
from fastsim.options import integer
from fastsim.vidur.workload import Traffic, read_traffic

DEVICES = {"a100": "a100_sxm", "h100": "h100_sxm"}
SCHEDULERS = {
    "vllm": "vllm_v0",
    "sarathi": "sarathi",
    "orca": "orca",
    "faster_transformer": "faster_transformer",
    "lightllm": "lightllm",
}
#: Vidur's options of a batch policy and ours, beside batch_size_cap.
_OPTIONS = {
    "vllm": {
        "watermark_blocks_fraction": "watermark_blocks_fraction",
        "max_tokens_in_batch": "max_num_batched_tokens",
    },
    "sarathi": {"watermark_blocks_fraction": "watermark_blocks_fraction", "chunk_size": "chunk_size"},
    "orca": {},
    "faster_transformer": {},
    "lightllm": {"max_tokens_in_batch": "max_num_batched_tokens", "max_waiting_iters": "max_waiting_iterations"},
}
ROUTERS = {"round_robin": "round_robin", "random": "random", "lor": "least_outstanding"}
#: Fields of `fastsim.vidur.options.VidurParity` that have Vidur's own names, in execution_time_predictor_config.
PREDICTOR = (
    "attention_decode_batching_overhead_fraction",
    "attention_prefill_batching_overhead_fraction",
    "nccl_cpu_launch_overhead_ms",
    "nccl_cpu_skew_overhead_per_device_ms",
    "kv_cache_prediction_granularity",
    "prediction_max_prefill_chunk_size",
    "prediction_max_batch_size",
    "prediction_max_tokens_per_request",
)
#: What makes a built-in model the file's. The vocabulary is rounded differently, and not simulated by Vidur.
_SAME = (
    "hidden_size",
    "num_layers",
    "num_q_heads",
    "num_kv_heads",
    "head_dim",
    "intermediate_size",
    "gated_mlp",
    "parallel_attention_mlp",
)


@dataclass(frozen=True)
class VidurSettings:
    """A Vidur configuration in our words.

    Attributes:
        serving: fields of `SimulationConfig`, choices and their options among them.
        traffic: what arrives.
        notes: sentences on what was left out.
    """

    serving: dict[str, Any]
    traffic: Traffic
    notes: tuple[str, ...] = field(default=())


class VidurFile:
    """Typed access to a Vidur configuration.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the file.

        Raises:
            ConfigError: it cannot be read, or is not one of Vidur's.
        """
        self.path = Path(path)
        mend = "give the config.json that Vidur writes beside its results"
        try:
            values = parsed_json(read_bounded(self.path))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError("vidur-config", str(path), f"cannot be read as JSON ({reason})", mend) from None
        if not isinstance(values, dict) or not isinstance(values.get("cluster_config"), dict):
            raise ConfigError("vidur-config", str(path), "has no table cluster_config", mend)
        self.values: dict[str, Any] = values

    def table(self, *keys: str) -> Mapping[str, Any]:
        """A table of the file.

        Raises:
            ConfigError: it is missing.
        """
        found: Any = self.values
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            raise ConfigError("vidur-config", str(self.path), f"has no table {'.'.join(keys)}", "correct the file")
        return found

    def need(self, table: Mapping[str, Any], what: str, key: str) -> Any:
        """A value of a table.

        Raises:
            ConfigError: it is missing or null.
        """
        if table.get(key) is None:
            raise ConfigError(f"vidur-config: {what}.{key}", None, f"is missing in {self.path}", "add it")
        return table[key]

    def number(self, table: Mapping[str, Any], what: str, key: str, default: float | None = None) -> Any:
        """A number of a table.

        Args:
            table: where it is.
            what: the table's name.
            key: its name.
            default: its value where it is missing or null; None where it must not be.

        Raises:
            ConfigError: it is no finite number, or missing without a default.
        """
        value = self.need(table, what, key) if default is None or table.get(key) is not None else default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(f"vidur-config: {what}.{key}", value, "is not a finite number", "correct the file")
        return value

    def choice(self, table: Mapping[str, Any], what: str, known: Mapping[str, Any]) -> str:
        """The name in a table, which must be one of Vidur's.

        Raises:
            ConfigError: it is none.
        """
        name = str(table.get("name")).lower()
        if name not in known:
            mend = f"give {', '.join(known)}"
            raise ConfigError(f"vidur-config: {what}", table.get("name"), "is not one of Vidur's", mend)
        return name

    def settings(self, parity: bool) -> VidurSettings:
        """What the file says, in our words.

        Args:
            parity: for ``parity="vidur"``, where caps mean what they mean there; else for our own rules.

        Raises:
            ConfigError: a table or a choice is missing or unknown.
        """
        notes: tuple[str, ...] = ()
        if (time_limit_s := self.values.get("time_limit")) and not parity:
            notes += (f"Vidur's time_limit of {time_limit_s} s is left out: every request runs to its end",)
        if self.cpu_overhead:
            notes += ("Vidur's CPU overhead is left out: it comes from profiles of one's own engine",)
        return VidurSettings(self.serving(parity), read_traffic(self), notes)

    def serving(self, parity: bool) -> dict[str, Any]:
        """Fields of `SimulationConfig`; see `settings`."""
        replica = self.table("cluster_config", "replica_config")
        serving = self._machine(replica) | self._scheduler(replica, parity) | self._router(parity)
        serving |= {"max_model_len": self.max_tokens, "seed": self.seed}
        if parity:
            predictor = self.table("execution_time_predictor_config")
            options = {name: predictor[name] for name in PREDICTOR if predictor.get(name) is not None}
            options["time_limit_s"] = self.values.get("time_limit") or 0
            serving |= {"parity": "vidur", "parity_options": options}
        return serving

    @property
    def max_tokens(self) -> int:
        """Longest request that the generator may make, prompt and output together."""
        table = self.table("request_generator_config")
        lengths = table.get("length_generator_config")
        for what, found in (("request_generator_config", table), ("length_generator_config", lengths)):
            if isinstance(found, Mapping) and found.get("max_tokens"):
                return int(self.number(found, what, "max_tokens"))
        return 4096

    @property
    def seed(self) -> int:
        """Of everything random."""
        seed = integer("vidur-config: seed", self.values.get("seed") or 0)
        if seed < 0:
            raise ConfigError("vidur-config: seed", seed, "is too small", "give 0 or more")
        return seed

    @property
    def memory_gib(self) -> float:
        """Memory of a GPU as Vidur counts it."""
        device = self.table("cluster_config", "replica_config", "device_config")
        return float(self.number(device, "device_config", "total_memory_gb"))

    @property
    def cpu_overhead(self) -> bool:
        """Whether the time of the host is modelled."""
        predictor = self.values.get("execution_time_predictor_config")
        return isinstance(predictor, Mapping) and predictor.get("skip_cpu_overhead_modeling") is False

    def _machine(self, replica: Mapping[str, Any]) -> dict[str, Any]:
        """Model, device and parallelism."""
        device = str(self.need(replica, "replica_config", "device"))
        return {
            "model": self._model(replica),
            "device": DEVICES.get(device.lower(), device),
            "tensor_parallel": self.need(replica, "replica_config", "tensor_parallel_size"),
            "pipeline_parallel": self.need(replica, "replica_config", "num_pipeline_stages"),
            "replicas": self.need(self.table("cluster_config"), "cluster_config", "num_replicas"),
            "gpu_memory_utilization": 1 - self.number(replica, "replica_config", "memory_margin_fraction"),
        }

    def _model(self, replica: Mapping[str, Any]) -> str:
        """The name where we know the model as the file has it; else the file, of which it is read."""
        from estimators.models import load_model, model_names
        from estimators.vidur_model import model_from_vidur

        name = str(self.need(replica, "replica_config", "model_name"))
        if name not in model_names():
            return str(self.path)
        if replica.get("model_config") is None:
            return name
        described = self.table("cluster_config", "replica_config", "model_config")
        theirs, ours = model_from_vidur(described), load_model(name)
        return name if all(getattr(theirs, key) == getattr(ours, key) for key in _SAME) else str(self.path)

    def _scheduler(self, replica: Mapping[str, Any], parity: bool) -> dict[str, Any]:
        """Batch policy and KV blocks."""
        table = self.table("cluster_config", "replica_scheduler_config")
        name = self.choice(table, "replica_scheduler_config", SCHEDULERS)
        cap = self.number(table, "replica_scheduler_config", "batch_size_cap")
        if name in ("orca", "faster_transformer") and not parity:
            # Theirs is of a micro-batch, ours of a replica (oddity 14).
            cap *= self.number(replica, "replica_config", "num_pipeline_stages")
        options = {
            ours: self.need(table, "replica_scheduler_config", theirs) for theirs, ours in _OPTIONS[name].items()
        }
        return {
            "scheduler": SCHEDULERS[name],
            "scheduler_options": {"max_num_seqs": cap, **options},
            "block_size": self.need(table, "replica_scheduler_config", "block_size"),
            "num_kv_blocks": table.get("num_blocks") or None,
        }

    def _router(self, parity: bool) -> dict[str, Any]:
        """Router."""
        table = self.table("cluster_config", "global_scheduler_config")
        name = self.choice(table, "global_scheduler_config", ROUTERS)
        return {"router": name if parity else ROUTERS[name]}
