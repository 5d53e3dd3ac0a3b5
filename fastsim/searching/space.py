"""The space of a search: every field of a configuration is a value or a list of values, and so is every option.

>>> space = Space.read({"tensor_parallel": [1, 2], "gpus": 8, "scheduler": [
...     {"name": "vllm_v1", "max_num_seqs": [64, 256]}, {"name": "sarathi", "chunk_size": [512, 1024]}]})
>>> space.size, space.axes
(8, ('tensor_parallel', 'replicas', 'scheduler', 'scheduler.max_num_seqs', 'scheduler.chunk_size'))
"""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from math import prod
from typing import Any

from fastsim.config import SimulationConfig, read_field
from fastsim.errors import ConfigError
from fastsim.options import integer
from fastsim.searching.alternatives import KINDS, Alternative, Pick, read_alternatives, read_values
from fastsim.searching.tasks import REFUSED, config_id

#: Fields of a configuration that a space does not have, and what to do instead.
_ELSEWHERE = {
    "client": "leave it out: rates are searched, which only open clients have",
    "parity": "leave it out: searches simulate by fastsim's own rules",
    "record_batches": "leave it out, and simulate the best once more with it",
    "record_metrics": "leave it out, and simulate the best once more with it",
    "keep_requests": "leave it out",
}
_SPECS = {
    spec.name: spec
    for spec in fields(SimulationConfig)
    if spec.name not in (*KINDS, *_ELSEWHERE) and not spec.name.endswith("_options")
}
#: More are not written down one by one.
MOST_CONFIGURATIONS = 1_000_000
#: A configuration before it is one: fields, and choices as tables with a name.
Point = dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """One configuration of a space.

    Attributes:
        id: hash of the configuration, or where there is none of what it was to be.
        values: by axis of the space; None where the configuration's choice has no such option.
        config: the configuration; None where it is refused.
        reason: why it is refused, else ``""``.
        status: ``"refused"`` or ``"does_not_fit"`` where a reason says why, else ``""``.
    """

    id: str
    values: Mapping[str, Any]
    config: SimulationConfig | None
    reason: str = ""
    status: str = ""


@dataclass(frozen=True)
class Space:
    """All combinations of values.

    Attributes:
        fields: fields of the configuration, the values of each in the order given.
        kinds: alternatives of the choices that were given.
        gpus: GPUs of which as many replicas are made as fit; empty where ``replicas`` says how many.
    """

    fields: Mapping[str, tuple[Any, ...]]
    kinds: Mapping[str, tuple[Alternative, ...]]
    gpus: tuple[int, ...] = ()

    @classmethod
    def read(cls, given: "Mapping[str, Any] | Space") -> "Space":
        """Check a space.

        Args:
            given: by field a value or a list of values. ``scheduler``, ``queue``, ``router`` and ``engine`` are names,
                or tables with a ``name`` and options, each a value or a list; or a list of these. ``gpus`` stands in
                place of ``replicas``: ``gpus // (tensor_parallel * pipeline_parallel * data_parallel)``.

        Raises:
            ConfigError: naming the field: it is not known, has no values, or one that is wrong by itself.
            estimators.EstimatorError: a model or device that is not known.
        """
        if isinstance(given, Space):
            return given
        if not isinstance(given, Mapping):
            raise ConfigError("space", given, "is not a table of fields", "give {'tensor_parallel': [1, 2]}, say")
        if "gpus" in given and "replicas" in given:
            raise ConfigError("space.replicas", given["replicas"], "is given beside gpus", "give one of them")
        found: dict[str, tuple[Any, ...]] = {}
        kinds: dict[str, tuple[Alternative, ...]] = {}
        gpus: tuple[int, ...] = ()
        for name, value in given.items():
            if name == "gpus":
                gpus = read_values("space.gpus", value, _gpus)
            elif name in KINDS:
                kinds[name] = read_alternatives(name, value)
            elif name == "slo" and not isinstance(value, Mapping):
                mend = "give one table such as {'ttft_s': 1.0}; limits of the run are given beside the space"
                raise ConfigError("space.slo", value, "is not a table of objectives of each request", mend)
            elif name in _SPECS:
                found[name] = read_values(f"space.{name}", value, partial(read_field, _SPECS[name]))
            elif name in _ELSEWHERE:
                raise ConfigError(f"space.{name}", value, "is no part of a space", _ELSEWHERE[name])
            else:
                known = ", ".join((*_SPECS, *KINDS, "gpus"))
                raise ConfigError(f"space.{name}", value, "is not known", f"the fields are {known}")
        from estimators import load_device, load_model

        for name, load in (("model", load_model), ("device", load_device)):
            for value in found.get(name, ()):
                load(value)
        return cls(found, kinds, gpus)

    @property
    def size(self) -> int:
        """Number of combinations; configurations may be fewer, where combinations are equal."""
        choices = (
            sum(prod(map(len, alternative.options.values())) for alternative in alternatives)
            for alternatives in self.kinds.values()
        )
        return prod(map(len, self.fields.values())) * prod(choices) * max(1, len(self.gpus))

    @property
    def axes(self) -> tuple[str, ...]:
        """What differs between configurations, or was given a list: names of columns, options as ``scheduler.name``."""
        names = [name for name, values in self.fields.items() if len(values) > 1]
        names += ["replicas"] if self.gpus else []
        for kind, alternatives in self.kinds.items():
            names += [kind] if len(alternatives) > 1 else []
            options = dict.fromkeys(option for alternative in alternatives for option in alternative.options)
            several = {option for one in alternatives for option, values in one.options.items() if len(values) > 1}
            names += [f"{kind}.{option}" for option in options if len(alternatives) > 1 or option in several]
        return tuple(names)

    def draw(self, pick: Pick) -> Candidate:
        """The configuration of values that are picked one by one; what is picked from depends on what was before."""
        point: Point = {name: pick(name, values) for name, values in self.fields.items()}
        for kind, alternatives in self.kinds.items():
            number = pick(kind, range(len(alternatives)))
            point[kind] = alternatives[number].draw(pick, kind if len(alternatives) == 1 else f"{kind}[{number}]")
        return self._candidate(point, pick("gpus", self.gpus) if self.gpus else None)

    def candidates(self) -> list[Candidate]:
        """Every configuration once, in the order of the fields and their values, the last varying fastest.

        Raises:
            ConfigError: there are too many, or not one can be simulated.
        """
        if self.size > MOST_CONFIGURATIONS:
            mend = "give fewer values, or search with strategy tpe"
            raise ConfigError("space", self.size, "are too many configurations to try each", mend)
        found: dict[str, Candidate] = {}
        for point, gpus in self._points():
            candidate = self._candidate(point, gpus)
            found.setdefault(candidate.id, candidate)
        first = next(iter(found.values()))
        if all(candidate.config is None for candidate in found.values()):
            wrong = f"holds no configuration that can be simulated; the first of {len(found)}: {first.reason[:-1]}"
            raise ConfigError("space", None, wrong, "mend that, or give other values")
        return list(found.values())

    def _points(self) -> Iterator[tuple[Point, int | None]]:
        every: list[list[Any]] = [[{name: value} for value in values] for name, values in self.fields.items()]
        for kind, alternatives in self.kinds.items():
            tables = (alternative.tables() for alternative in alternatives)
            every.append([{kind: table} for table in itertools.chain.from_iterable(tables)])
        for *parts, gpus in itertools.product(*every, self.gpus or (None,)):
            yield {name: value for part in parts for name, value in part.items()}, gpus

    def _candidate(self, point: Point, gpus: int | None) -> Candidate:
        reason = ""
        if gpus is not None:
            sizes = (point.get(name, 1) for name in ("tensor_parallel", "pipeline_parallel", "data_parallel"))
            per_replica = prod(sizes)
            point = point | {"replicas": gpus // per_replica}
            if per_replica > gpus:
                reason = f"gpus {gpus} are fewer than the {per_replica} of one replica; give more, or split it less."
        try:
            config = SimulationConfig.from_dict(point) if not reason else None
        except ConfigError as error:
            config, reason = None, str(error)
        if config is None:
            text = json.dumps(point, sort_keys=True)
            return Candidate(
                hashlib.sha256(text.encode()).hexdigest()[:12], self._values_of(point), None, reason, REFUSED
            )
        return Candidate(config_id(config), self._values_of(config.to_dict()), config)

    def _values_of(self, table: Mapping[str, Any]) -> dict[str, Any]:
        """The axes' values of a configuration, or of a point."""
        values = {}
        for axis in self.axes:
            name, _, option = axis.partition(".")
            value = table.get(name)
            values[axis] = (value or {}).get(option or "name") if name in KINDS else value
        return values


def _gpus(value: Any) -> int:
    gpus = integer("space.gpus", value)
    if gpus < 1:
        raise ConfigError("space.gpus", gpus, "is too small", "give 1 or more")
    return gpus
