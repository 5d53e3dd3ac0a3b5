"""Pipeline stages: which layers each holds."""

from __future__ import annotations

from typing import NamedTuple

from estimators.errors import EstimatorError


class Stage(NamedTuple):
    """What of a model one pipeline stage holds.

    Attributes:
        layers: number of its layers.
        first: it holds the embedding table.
        last: it holds the final norm and the LM head, and samples.
        window_layers: how many of its layers have windowed attention.
        expert_layers: how many have a mixture of experts.
    """

    layers: int
    first: bool
    last: bool
    window_layers: int = 0
    expert_layers: int = 0


def layers_of_stage(num_layers: int, name: str, pp: int, stage: int) -> range:
    """Indices of the layers of the pipeline stage ``stage`` of ``pp``.

    Layers that are left over go to the stages before the last one, from the back, one each: the last has the LM head,
    and with few left over the first, which has the embedding, gets none either. This is vLLM's rule
    (``get_pp_indices`` in ``vllm/distributed/utils.py``).

    Args:
        num_layers: of the model.
        name: of the model, for errors.
        pp: number of stages.
        stage: which of them, 0 to ``pp - 1``.

    Raises:
        EstimatorError: when there are more stages than layers or no such stage.
    """
    if not _is_integer(pp, 1, num_layers):
        wrong = f"is no number of stages for the {num_layers} layers of {name}"
        raise EstimatorError("pp", pp, wrong, f"choose 1 to {num_layers}")
    if not _is_integer(stage, 0, pp - 1):
        raise EstimatorError("stage", stage, f"is not one of {pp} pipeline stages", f"choose 0 to {pp - 1}")
    each, left_over = divmod(num_layers, pp)
    counts = [each + (pp - 1 - left_over <= number < pp - 1) for number in range(stage + 1)]
    return range(sum(counts[:-1]), sum(counts))


def _is_integer(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
