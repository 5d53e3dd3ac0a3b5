"""Which type a quantised checkpoint holds its weights and its KV cache in, and which parts it leaves alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from estimators.errors import EstimatorError
from estimators.weights import PARTS

if TYPE_CHECKING:
    from estimators.model_spec import ModelSpec

_MEND = "choose weights in bf16, fp8, NVFP4, MXFP4, or 4-bit integers beside bf16 activations"
#: Side of the square of weights that share a scale in ``fp8_block``.
_BLOCK = [128, 128]
_MODELOPT = {"FP8": "fp8", "NVFP4": "nvfp4"}
#: Keys of lists of modules that are not quantised: of Model Optimizer, compressed-tensors and transformers.
_LEFT_ALONE = ("exclude_modules", "ignore", "modules_to_not_convert", "ignored_layers")
#: A module of each part by the names that families give it, one of which a checkpoint has.
_MODULES = {
    "attention": ("self_attn.q_proj", "self_attn.qkv_proj", "self_attn.q_b_proj"),
    "attention_output": ("self_attn.o_proj",),
    "mlp": ("mlp.down_proj",),
    "experts": ("mlp.experts.0.down_proj", "block_sparse_moe.experts.0.w2"),
    "shared_experts": ("mlp.shared_experts.down_proj", "mlp.shared_expert.down_proj"),
}
#: What stands before ``layers`` in the names of modules.
_PREFIXES = ("model.", "language_model.model.", "model.language_model.")
#: Of all patterns in lists of names; published checkpoints have 12,000.
_MAX_CHARACTERS = 100_000
_PREFIX = re.compile(r"(?:(?:language_model|model)\.)+")


class Quantisation(NamedTuple):
    """What a checkpoint fixes; fields of ``ModelSpec``."""

    weight_dtype: str | None
    unquantised: tuple[str, ...]
    kv_dtype: str | None


UNQUANTISED = Quantisation(None, (), None)


def quantisation_of(told: Any, field: str, model: ModelSpec) -> Quantisation:
    """What a checkpoint's ``quantization_config`` says of a model.

    The forms are those of NVIDIA's Model Optimizer (also its ``hf_quant_config.json``), compressed-tensors, vLLM's own
    fp8 and transformers' MXFP4. That activations are scaled as they come or by fixed factors makes no difference here.

    Args:
        told: the parsed table.
        field: what errors call it.
        model: the model, unquantised. A part of it counts as left alone where most of its layers are.

    Raises:
        EstimatorError: a kind of weights or of KV cache that is not simulated.
    """
    table = told.get("quantization", told) if isinstance(told, Mapping) else None
    if not isinstance(table, Mapping):
        raise EstimatorError(field, told, "is not a table", "correct the file")
    if (dtype := _weight_dtype(table)) is None:
        kind = table.get("quant_algo") or table.get("quant_method")
        raise EstimatorError(field, kind, "means quantised weights of a kind that is not simulated", _MEND)
    cache = table.get("kv_cache_quant_algo") or table.get("kv_cache_scheme")
    if cache and not (_is_number(cache, "float", 8) or str(cache).upper() == "FP8"):
        wrong = "means a quantised KV cache of a kind that is not simulated"
        raise EstimatorError(field, cache, wrong, "choose one in fp8 or unquantised")
    try:
        parts = _unquantised_parts(table, model)
    except (AttributeError, TypeError, ValueError) as error:
        raise EstimatorError(field, str(error), "is wrong in a list of names of modules", "correct the file") from error
    return Quantisation(dtype, parts, "fp8" if cache else None)


def _weight_dtype(table: Mapping[str, Any]) -> str | None:
    """Our name of the type of the weights, None where we have none."""
    method = str(table.get("quant_method", "modelopt")).lower()
    if method.startswith("modelopt"):
        return _MODELOPT.get(str(table.get("quant_algo", "")).upper())
    if method == "compressed-tensors":
        groups = table.get("config_groups")
        kinds = {_group_dtype(group) for group in groups.values()} if isinstance(groups, Mapping) else set()
        return kinds.pop() if len(kinds) == 1 else None
    if method == "fp8":
        block = table.get("weight_block_size")
        return "fp8_block" if block == _BLOCK else None if block else "fp8"
    return "mxfp4" if method == "mxfp4" else None


def _group_dtype(group: Any) -> str | None:
    """Type of the weights of one group of compressed-tensors."""
    if not isinstance(group, Mapping) or not isinstance(weights := group.get("weights"), Mapping):
        return None
    strategy, activations = weights.get("strategy", "tensor"), group.get("input_activations")
    if _is_number(weights, "float", 8) and _is_number(activations, "float", 8):
        if strategy == "block":
            return "fp8_block" if weights.get("block_structure") == _BLOCK else None
        return "fp8" if strategy in ("tensor", "channel") else None
    if _is_number(weights, "float", 4) and _is_number(activations, "float", 4):
        return "nvfp4" if weights.get("group_size") == 16 else None
    if activations is not None or strategy not in ("group", "channel"):
        return None
    if _is_number(weights, "float", 4):
        return "mxfp4" if weights.get("group_size") == 32 else None
    return "int4" if _is_number(weights, "int", 4) else None


def _is_number(scheme: Any, kind: str, bits: int) -> bool:
    return isinstance(scheme, Mapping) and scheme.get("num_bits") == bits and scheme.get("type") == kind


def _unquantised_parts(table: Mapping[str, Any], model: ModelSpec) -> tuple[str, ...]:
    """Parts of which more layers are left alone than quantised."""
    dense = set(range(model.num_layers) if model.experts is None else model.experts.dense_layers)
    with_experts = set(range(model.num_layers)) - dense
    shared = with_experts if model.experts and model.experts.shared_intermediate_size else ()
    every = range(model.num_layers)
    layers = dict(zip(PARTS, (every, every, dense, with_experts, shared), strict=True))

    def modules(part: str, layer: int) -> list[str]:
        return [f"layers.{layer}.{name}" for name in _MODULES[part]]

    known = [module for part in PARTS for layer in layers[part] for module in modules(part, layer)]
    left = _named([name for key in _LEFT_ALONE for name in table.get(key) or ()], known)
    groups = table.get("config_groups") or {}
    targets = [name for group in groups.values() for name in group.get("targets") or ("Linear",)] or ["Linear"]
    quantised = _named(["*" if name == "Linear" else name for name in targets], known)

    def left_alone(part: str, layer: int) -> bool:
        found = modules(part, layer)
        return not left.isdisjoint(found) or quantised.isdisjoint(found)

    return tuple(part for part in PARTS if 2 * sum(left_alone(part, i) for i in layers[part]) > len(layers[part]))


def _named(names: Sequence[str], modules: Sequence[str]) -> set[str]:
    """The modules, from ``layers`` on, that have one of the names, or are in one that has.

    In these ``*`` stands for anything. After ``re:`` stands a regular expression of the beginning of the whole name, as
    compressed-tensors has it.

    Raises:
        ValueError: a regular expression, or so many, are not read.
    """
    plain, expressions = set(), []
    for name in names:
        tail = _PREFIX.sub("", name)
        if name.startswith("re:"):
            if "{" in name:  # of a count times a count a few characters make an expression that takes minutes
                raise ValueError(f"{name!r} repeats a part so many times")
            expressions.append(f"^(?:{name[3:]})")
        elif "*" not in name:
            plain.add(tail)
        else:
            inner = "" if tail.startswith("layers.") else r"(?:.*\.)?"
            anything = re.escape(tail).replace(re.escape("*"), ".*")
            expressions.append(rf"^(?:{'|'.join(map(re.escape, _PREFIXES))}){inner}{anything}(?:\..*)?$")
    return {module for module in modules if _has_piece(module, plain)} | _matching(expressions, modules)


def _has_piece(module: str, names: set[str]) -> bool:
    pieces = module.split(".")
    ends = range(1, len(pieces) + 1)
    return any(".".join(pieces[start:end]) in names for end in ends for start in range(end))


def _matching(expressions: Sequence[str], modules: Sequence[str]) -> set[str]:
    """The modules that one of the regular expressions matches behind one of the prefixes."""
    if sum(map(len, expressions)) > _MAX_CHARACTERS:
        raise ValueError(f"names with * or re: of more than {_MAX_CHARACTERS:,} characters")
    if not expressions or not modules:
        return set()
    import polars as pl

    names = pl.DataFrame({"module": list(modules) * len(_PREFIXES)}).with_columns(
        name=pl.Series([prefix + module for prefix in _PREFIXES for module in modules])
    )
    found: set[str] = set()
    for expression in dict.fromkeys(expressions):
        try:
            # Not with Python's re, on which an expression of twenty characters can spend years.
            matches = names.filter(pl.col("name").str.contains(expression))
        except pl.exceptions.ComputeError as error:
            raise ValueError(f"{expression[4:-1]!r} is no regular expression that is read") from error
        found.update(matches["module"])
    return found
