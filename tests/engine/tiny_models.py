"""Random models in F32 of the kinds whose memory is more than one row of keys and values per token.

| kind      | llama.cpp's | layers                                     | memory of a sequence                     |
| --------- | ----------- | ------------------------------------------ | ---------------------------------------- |
| sliding   | `olmo2`     | three that see a window, one that sees all | keys and values, of all or of the window |
| recurrent | `mamba`     | two state spaces                           | one state, the same size after any token |
| hybrid    | `jamba`     | a state space, attention, a state space    | keys and values, and one state           |

Weights are such that what stands far back still moves the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
from tests.engine.plain_model import add_vocabulary

from headstart.engine.demo_vocabulary import small_vocabulary

VOCABULARY, WIDTH, CONTEXT, FEED_FORWARD = 512, 64, 8192, 128
HEADS, KV_HEADS = 4, 2
KV_WIDTH = WIDTH // HEADS * KV_HEADS
INNER, STATE, KERNEL, RANK = 2 * WIDTH, 16, 4, 4
SLIDING_LAYERS, RECURRENT_LAYERS, HYBRID_LAYERS = 4, 2, 3
ATTENTION_LAYER = 1
"""Of the hybrid's layers, the one with keys and values."""


class Weights:
    """Random tensors into one GGUF, from a seed."""

    def __init__(self, path: Path, architecture: str, layers: int, seed: int) -> None:
        vocabulary, self.rng = small_vocabulary(VOCABULARY), np.random.default_rng(seed)
        self.writer = writer = gguf.GGUFWriter(path, architecture)
        writer.add_context_length(CONTEXT)
        writer.add_embedding_length(WIDTH)
        writer.add_block_count(layers)
        writer.add_layer_norm_rms_eps(1e-5)
        add_vocabulary(writer, vocabulary)
        self.matrix("token_embd", VOCABULARY, WIDTH, WIDTH**0.5)
        self.matrix("output", VOCABULARY, WIDTH, 3.0)
        self.same("output_norm.weight", WIDTH, 1.0)

    def matrix(self, name: str, rows: int, columns: int, size: float = 1.0) -> None:
        """Normal numbers that give rows of standard deviation `size` for inputs of 1."""
        values = self.rng.standard_normal((rows, columns), np.float32) * np.float32(size / columns**0.5)
        self.writer.add_tensor(f"{name}.weight", values)

    def same(self, name: str, width: int, value: float) -> None:
        """One number everywhere."""
        self.writer.add_tensor(name, np.full(width, value, np.float32))

    def attention(self, layer: int, size: float) -> None:
        """Queries, keys, values and the way out. Keys that stand out make attention choose: a mean over a long prefix
        would hide a single token."""
        self.matrix(f"blk.{layer}.attn_q", WIDTH, WIDTH, size)
        self.matrix(f"blk.{layer}.attn_k", KV_WIDTH, WIDTH, size)
        self.matrix(f"blk.{layer}.attn_v", KV_WIDTH, WIDTH)
        self.matrix(f"blk.{layer}.attn_output", WIDTH, WIDTH)

    def feed_forward(self, layer: int) -> None:
        """Gate, up, down."""
        self.matrix(f"blk.{layer}.ffn_gate", FEED_FORWARD, WIDTH)
        self.matrix(f"blk.{layer}.ffn_up", FEED_FORWARD, WIDTH)
        self.matrix(f"blk.{layer}.ffn_down", WIDTH, FEED_FORWARD)

    def state_space(self, layer: int) -> None:
        """A Mamba layer, which forgets over ten to thousands of tokens."""
        block = f"blk.{layer}"
        self.matrix(f"{block}.ssm_in", 2 * INNER, WIDTH)
        self.matrix(f"{block}.ssm_conv1d", INNER, KERNEL)
        self.same(f"{block}.ssm_conv1d.bias", INNER, 0.0)
        self.matrix(f"{block}.ssm_x", RANK + 2 * STATE, INNER, 3.0)
        self.matrix(f"{block}.ssm_dt", INNER, RANK, 0.5)
        steps = np.geomspace(0.01, 0.3, INNER, dtype=np.float32)
        self.writer.add_tensor(f"{block}.ssm_dt.bias", np.log(np.expm1(steps)))
        decay = np.broadcast_to(-np.geomspace(0.01, 1, STATE, dtype=np.float32), (INNER, STATE))
        self.writer.add_tensor(f"{block}.ssm_a", np.ascontiguousarray(decay))
        self.same(f"{block}.ssm_d", INNER, 1.0)
        self.matrix(f"{block}.ssm_out", WIDTH, INNER)

    def add_state_space(self) -> None:
        """The sizes of `state_space`."""
        self.writer.add_ssm_conv_kernel(KERNEL)
        self.writer.add_ssm_inner_size(INNER)
        self.writer.add_ssm_state_size(STATE)
        self.writer.add_ssm_time_step_rank(RANK)

    def close(self) -> None:
        """Write the file."""
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def write_sliding(path: Path, *, window: int = 256, seed: int = 0) -> None:
    """Layers 0 to 2 see the last `window` tokens, layer 3 all."""
    weights = Weights(path, "olmo2", SLIDING_LAYERS, seed)
    writer = weights.writer
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_sliding_window(window)
    writer.add_sliding_window_pattern(SLIDING_LAYERS)
    for layer in range(SLIDING_LAYERS):
        weights.attention(layer, 1.0)
        weights.same(f"blk.{layer}.attn_q_norm.weight", WIDTH, 3.5)
        weights.same(f"blk.{layer}.attn_k_norm.weight", KV_WIDTH, 3.5)
        weights.feed_forward(layer)
        for norm in ("post_attention_norm", "post_ffw_norm"):
            weights.same(f"blk.{layer}.{norm}.weight", WIDTH, 1.0)
    weights.close()


def write_recurrent(path: Path, *, seed: int = 0) -> None:
    """Mamba."""
    weights = Weights(path, "mamba", RECURRENT_LAYERS, seed)
    writer = weights.writer
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    weights.add_state_space()
    for layer in range(RECURRENT_LAYERS):
        weights.same(f"blk.{layer}.attn_norm.weight", WIDTH, 1.0)
        weights.state_space(layer)
    weights.close()


def write_hybrid(path: Path, *, seed: int = 0) -> None:
    """Jamba without experts."""
    weights = Weights(path, "jamba", HYBRID_LAYERS, seed)
    writer = weights.writer
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv([KV_HEADS if layer == ATTENTION_LAYER else 0 for layer in range(HYBRID_LAYERS)])
    weights.add_state_space()
    for layer in range(HYBRID_LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            weights.same(f"blk.{layer}.{norm}.weight", WIDTH, 1.0)
        if layer == ATTENTION_LAYER:
            weights.attention(layer, 3.5)
        else:
            weights.state_space(layer)
            for norm, width in (("ssm_dt_norm", RANK), ("ssm_b_norm", STATE), ("ssm_c_norm", STATE)):
                weights.same(f"blk.{layer}.{norm}.weight", width, 1.0)
        weights.feed_forward(layer)
    weights.close()


WRITERS: Mapping[str, Callable[[Path], None]] = {
    "sliding": write_sliding,
    "recurrent": write_recurrent,
    "hybrid": write_hybrid,
}
