"""Bayesian search by optuna's tree-structured Parzen estimator, for spaces too large to try each configuration."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

from fastsim.config import SimulationConfig
from fastsim.errors import ConfigError
from fastsim.searching.evaluator import Evaluator
from fastsim.searching.rows import Row
from fastsim.searching.space import Candidate, Space
from fastsim.searching.tasks import Key

#: Configurations asked for at a time: of one size, so that results do not depend on the number of threads.
_AT_A_TIME = 4
#: Configurations run if not told otherwise: a fifth of the space, within these.
_PART, _FEWEST, _MOST = 5, 20, 200
#: Times that a configuration may be proposed which was run before, or cannot, for each that is run.
_PATIENCE = 10


def tpe(space: Space, evaluator: Evaluator, seed: int, trials: int | None) -> list[Row]:
    """Run what optuna proposes for the most requests per dollar, in a study for each workload and model.

    Args:
        space: where to search.
        evaluator: runs configurations.
        seed: of the proposals.
        trials: configurations of each model to run under each workload; None for a fifth of them, 20 to 200.

    Returns:
        Rows of what was proposed, once each, in that order: those that cannot run included.

    Raises:
        ConfigError: optuna is not installed.
    """
    models = space.fields.get("model", (SimulationConfig.model,))
    size = space.size // len(models)
    if trials is None:
        trials = min(max(size // _PART, _FEWEST), _MOST)
    trials = min(trials, size)
    cases = list(product(evaluator.workloads, models))
    evaluator.expect(trials * len(cases))
    rows: list[Row] = []
    for number, (workload, model) in enumerate(cases):
        rows += _study(space, evaluator, workload, model, seed + number, trials)
    return rows


def _study(space: Space, evaluator: Evaluator, workload: str, model: str, seed: int, trials: int) -> list[Row]:
    optuna = _optuna()
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(_AT_A_TIME, min(10, trials // 2)))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    found: dict[str, Row] = {}
    ran: set[Key] = set()
    for _ in range(math.ceil(trials * (1 + _PATIENCE) / _AT_A_TIME)):
        asked = [study.ask() for _ in range(_AT_A_TIME)]
        proposed = [_propose(space, model, trial) for trial in asked]
        fresh = {one.id: one for one in proposed if one.id not in found}
        rows = evaluator.rows(list(fresh.values()), workload)
        runnable = [row for row in rows if not row.status][: trials - len(ran)]
        skipped = {row.candidate.id for row in rows if not row.status} - {row.candidate.id for row in runnable}
        ended = {row.candidate.id: row for row in evaluator.run([(row, None) for row in runnable])}
        found |= {row.candidate.id: ended.get(row.candidate.id, row) for row in rows if row.candidate.id not in skipped}
        ran |= {row.outcome.key for row in ended.values() if row.outcome is not None}
        for trial, candidate in zip(asked, proposed, strict=True):
            # What cannot run is worth nothing, and the study learns to stay away from it.
            study.tell(trial, found[candidate.id].worth[0] if candidate.id in found else 0.0)
        if len(ran) >= trials:
            break
    return list(found.values())


def _propose(space: Space, model: str, trial: Any) -> Candidate:
    """The configuration that a trial proposes: of each axis a number of its values, whatever these are."""

    def pick(name: str, values: Sequence[Any]) -> Any:
        return model if name == "model" else values[trial.suggest_categorical(name, range(len(values)))]

    return space.draw(pick)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        mend = "pip install 'fastsim-llm[optuna]', or choose exhaustive or halving"
        raise ConfigError("strategy", "tpe", "needs optuna", mend) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
