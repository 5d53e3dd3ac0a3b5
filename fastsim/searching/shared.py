"""Iteration tables that many configurations of a search share, each kept in memory once."""

import contextlib
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from estimators.layout import TableLayout
from fastsim.config import SimulationConfig
from fastsim.machine import load_machine, tables_for
from fastsim.stage_tables import most_decode_kv

#: Fields of a configuration on which its tables depend as they are.
_FIELDS = (
    *("model", "device", "tensor_parallel", "pipeline_parallel", "data_parallel", "expert_parallel", "expert_load"),
    *("expert_exchange", "dtype", "kv_dtype"),
)


class SharedTables:
    """Tables by what they depend on; may be used from several threads."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: dict[tuple[Any, ...], Any] = {}
        self._building: dict[tuple[Any, ...], threading.Lock] = {}
        self._lock = threading.Lock()

    def of(self, config: SimulationConfig, names_blocks: bool) -> Any:
        """What `fastsim.machine.tables_for` gives, and raises; equal ones are the same object."""
        key = _key(config, names_blocks)
        with self._lock:
            building = self._building.setdefault(key, threading.Lock())
        with building:
            if key not in self._kept:
                self._kept[key] = tables_for(config, names_blocks)
            return self._kept[key]

    def build(self, configs: Iterable[tuple[SimulationConfig, bool]], threads: int) -> None:
        """Build all that some configurations need, side by side; what cannot be built is left to who asks for it.

        Args:
            configs: such as can be loaded; with whether they serve workloads that name the blocks of their requests.
            threads: how many at a time.
        """
        distinct: dict[tuple[Any, ...], tuple[SimulationConfig, bool]] = {}
        for config, names_blocks in configs:
            distinct.setdefault(_key(config, names_blocks), (config, names_blocks))
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(self._try, distinct.values()))

    def _try(self, asked: tuple[SimulationConfig, bool]) -> None:
        with contextlib.suppress(Exception):
            self.of(*asked)


def _key(config: SimulationConfig, names_blocks: bool) -> tuple[Any, ...]:
    """Equal for configurations whose tables are equal: tables are rounded up to layouts that many share."""
    pool = load_machine(config)[2]
    policy = config.batch_policy
    kv = most_decode_kv(config, pool, names_blocks)
    layout = TableLayout.covering(policy.most_tokens(pool), policy.max_num_seqs, kv, config.max_model_len)
    return (*(getattr(config, name) for name in _FIELDS), layout)
