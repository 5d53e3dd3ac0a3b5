"""Vidur configurations for tests."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

LLAMA_70B = {
    "num_layers": 80,
    "num_q_heads": 64,
    "num_kv_heads": 8,
    "embedding_dim": 8192,
    "mlp_hidden_dim": 28672,
    "max_position_embeddings": 4096,
    "use_gated_mlp": True,
    "use_bias": False,
    "use_qkv_bias": False,
    "activation": 1,
    "norm": 1,
    "post_attn_norm": True,
    "vocab_size": 32768,
    "is_neox_style": True,
    "rope_theta": 10000,
    "rope_scaling": None,
    "partial_rotary_factor": 1.0,
    "no_tensor_parallel": False,
    "name": "meta-llama/Llama-2-70b-hf",
}
BASIC = {
    "seed": 7,
    "log_level": "info",
    "time_limit": 0,
    "cluster_config": {
        "num_replicas": 2,
        "replica_config": {
            "model_name": "meta-llama/Llama-2-70b-hf",
            "memory_margin_fraction": 0.1,
            "num_pipeline_stages": 1,
            "tensor_parallel_size": 4,
            "device": "a100",
            "network_device": "a100_dgx",
            "world_size": 4,
            "model_config": LLAMA_70B,
            "device_config": {"fp16_tflops": 312, "total_memory_gb": 80, "name": "a100"},
            "node_config": {"num_devices_per_node": 8, "device_sku_type": 2, "name": "a100_dgx"},
        },
        "global_scheduler_config": {"name": "lor"},
        "replica_scheduler_config": {
            "name": "sarathi",
            "batch_size_cap": 64,
            "block_size": 16,
            "watermark_blocks_fraction": 0.02,
            "num_blocks": None,
            "chunk_size": 256,
        },
    },
    "request_generator_config": {
        "name": "synthetic",
        "seed": 42,
        "length_generator_config": {
            "name": "fixed",
            "seed": 42,
            "max_tokens": 2048,
            "prefill_tokens": 300,
            "decode_tokens": 20,
        },
        "interval_generator_config": {"name": "poisson", "seed": 42, "qps": 4.0},
        "num_requests": 60,
        "duration": None,
        "max_tokens": 2048,
    },
    "execution_time_predictor_config": {
        "name": "random_forrest",
        "kv_cache_prediction_granularity": 32,
        "prediction_max_prefill_chunk_size": 2048,
        "prediction_max_batch_size": 64,
        "prediction_max_tokens_per_request": 2048,
        "attention_decode_batching_overhead_fraction": 0.2,
        "attention_prefill_batching_overhead_fraction": 0.3,
        "nccl_cpu_launch_overhead_ms": 0.05,
        "nccl_cpu_skew_overhead_per_device_ms": 0.01,
        "skip_cpu_overhead_modeling": True,
    },
    "metrics_config": {"write_metrics": True},
}
_SHORT = {
    "lengths": ("request_generator_config", "length_generator_config"),
    "intervals": ("request_generator_config", "interval_generator_config"),
    "requests": ("request_generator_config",),
    "scheduler": ("cluster_config", "replica_scheduler_config"),
    "router": ("cluster_config", "global_scheduler_config"),
    "replica": ("cluster_config", "replica_config"),
    "model": ("cluster_config", "replica_config", "model_config"),
    "predictor": ("execution_time_predictor_config",),
    "top": (),
}


def write_vidur(path: Path, whole: dict[str, Any] | None = None, **changes: dict[str, Any]) -> Path:
    """Write a configuration; ``changes`` go into its tables, ``whole`` replaces them."""
    values = deepcopy(BASIC)
    for table, entries in changes.items():
        found = values
        for key in _SHORT[table]:
            found = found[key]
        found.update(entries)
    for table, entries in (whole or {}).items():
        *above, last = _SHORT[table]
        found = values
        for key in above:
            found = found[key]
        found[last] = entries
    path.write_text(json.dumps(values))
    return path
