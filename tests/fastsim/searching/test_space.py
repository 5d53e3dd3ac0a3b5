"""Spaces: what they hold, in which order, and what they refuse."""

import doctest

import pytest
from search_cases import SPACE

from fastsim import SimulationConfig
from fastsim.searching import space as module
from fastsim.searching.space import Space
from fastsim.searching.tasks import config_id


def test_the_example_of_the_documentation():
    assert doctest.testmod(module).failed == 0


def test_every_combination_once_in_the_order_given():
    candidates = Space.read(SPACE).candidates()
    told = [
        (one.config.tensor_parallel, one.config.scheduler, dict(one.config.scheduler_options)) for one in candidates
    ]
    of_one = [
        ("vllm_v1", {"max_num_seqs": 9, "max_num_batched_tokens": 128}),
        ("vllm_v1", {"max_num_seqs": 16, "max_num_batched_tokens": 128}),
        ("sarathi", {"max_num_seqs": 16, "chunk_size": 96}),
        ("sarathi", {"max_num_seqs": 16, "chunk_size": 128}),
    ]
    assert told == [(tp, *scheduler) for tp in (1, 2) for scheduler in of_one]
    assert [one.config.replicas for one in candidates] == [2] * 4 + [1] * 4
    assert Space.read(SPACE).size == len(candidates) == 8


def test_axes_are_what_differs_and_options_that_a_choice_lacks_are_none():
    space = Space.read(SPACE)
    assert space.axes == (
        "tensor_parallel",
        "replicas",
        "scheduler",
        "scheduler.max_num_seqs",
        "scheduler.max_num_batched_tokens",
        "scheduler.chunk_size",
    )
    first, last = space.candidates()[0], space.candidates()[-1]
    assert list(first.values.values()) == [1, 2, "vllm_v1", 9, 128, None]
    assert list(last.values.values()) == [2, 1, "sarathi", 16, None, 128]


def test_an_id_is_of_what_a_configuration_says_not_of_how_it_was_written():
    assert config_id(SimulationConfig(scheduler_options={"max_num_seqs": 256})) == config_id(SimulationConfig())
    assert config_id(SimulationConfig(replicas=2)) != config_id(SimulationConfig())
    twice = Space.read({"scheduler": ["vllm_v1", {"name": "vllm_v1", "max_num_seqs": [256, 128]}]})
    assert [one.config.batch_policy.max_num_seqs for one in twice.candidates()] == [256, 128]


def test_names_may_share_options_and_choices_other_than_the_scheduler_vary():
    space = Space.read(
        {"router": ["random", "round_robin"], "scheduler": {"name": ["vllm_v0", "vllm_v1"], "max_num_seqs": [8, 16]}}
    )
    assert space.size == 8
    assert space.axes == ("router", "scheduler", "scheduler.max_num_seqs")


def test_combinations_that_make_no_configuration_are_refused_one_by_one():
    space = Space.read({"tensor_parallel": [1, 2, 4], "gpus": [2, 4], "pipeline_parallel": [1, 2]})
    reasons = {one.reason for one in space.candidates()}
    assert "gpus 2 are fewer than the 8 of one replica; give more, or split it less." in reasons
    space = Space.read({"pipeline_parallel": [1, 2], "scheduler": {"name": "lightllm"}, "block_size": 1})
    works, refused = space.candidates()
    assert works.config is not None
    assert "pipeline_parallel 2 does not go with scheduler lightllm" in refused.reason


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (5, ["space 5", "not a table"]),
        ({"tensor_paralel": 2}, ["space.tensor_paralel 2", "the fields are model, device, tensor_parallel"]),
        ({"tensor_parallel": []}, ["space.tensor_parallel []", "has no values"]),
        ({"tensor_parallel": [1, "two"]}, ["tensor_parallel 'two'", "whole number"]),
        ({"tensor_parallel": [1, 0]}, ["tensor_parallel 0", "too small"]),
        ({"model": 3}, ["model 3", "not a name"]),
        ({"model": ["Llama-3.1-8B", "Llama-9"]}, ["'Llama-9'"]),
        ({"device": "abacus"}, ["'abacus'", "a100_sxm"]),
        ({"scheduler": "fifo"}, ["scheduler 'fifo'", "vllm_v1"]),
        ({"scheduler": []}, ["space.scheduler []", "has no values"]),
        ({"scheduler": 3}, ["space.scheduler 3", "not a name"]),
        ({"scheduler": {"max_num_seqs": 3}}, ["space.scheduler", "has no name"]),
        ({"scheduler": {"name": "orca", "chunk_size": 64}}, ["scheduler.chunk_size 64", "max_num_seqs"]),
        ({"scheduler": {"name": "sarathi", "chunk_size": [64, "x"]}}, ["scheduler.chunk_size 'x'", "whole number"]),
        ({"gpus": 8, "replicas": 2}, ["space.replicas 2", "beside gpus"]),
        ({"gpus": 0}, ["space.gpus 0", "too small"]),
        ({"client": "closed"}, ["space.client 'closed'", "only open clients"]),
        ({"slo": [{"ttft_s": 1}]}, ["space.slo", "not a table"]),
        ({"parity": "vidur"}, ["space.parity", "own rules"]),
        ({"seed": range(1000), "block_size": list(range(1, 1002))}, ["1001000", "tpe"]),
        ({"gpus": 1, "tensor_parallel": [2, 4]}, ["no configuration", "gpus 1 are fewer than the 2"]),
    ],
)
def test_refusals(space: dict, words: list[str]):
    with pytest.raises(ValueError, match=r"\.$") as caught:
        Space.read(space).candidates()
    sentence = str(caught.value)
    assert all(word in sentence for word in words), sentence
    assert sentence.count(". ") == 0
    assert hasattr(caught.value, "mend")
