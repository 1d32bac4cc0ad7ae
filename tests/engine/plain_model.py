"""A plain random Llama in F32, for comparing runs: every part of a prefix moves every logit after it.

(The demo model is tuned to read well, which makes it forgiving: a cache that mixed prefixes up could pass unnoticed.)
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from headstart.engine.demo_vocabulary import Vocabulary, small_vocabulary

WIDTH, LAYERS, HEADS, KV_HEADS, FEED_FORWARD, CONTEXT = 64, 3, 4, 2, 128, 16_384


def add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    """What a GGUF of F32 tensors says of its tokens."""
    writer.add_vocab_size(len(vocabulary.texts))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-4o")
    writer.add_token_list(vocabulary.texts)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_eos_token_id(vocabulary.controls["<|im_end|>"])
    writer.add_add_bos_token(False)


def write_plain_model(path: Path, seed: int = 0) -> None:
    """Write the GGUF: 512 tokens of vocabulary, about 0.7 MB."""
    vocabulary, rng = small_vocabulary(512), np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10_000.0)
    add_vocabulary(writer, vocabulary)

    def matrix(name: str, rows: int, columns: int, size: float = 1.0) -> None:
        values = rng.standard_normal((rows, columns), np.float32) * np.float32(size / columns**0.5)
        writer.add_tensor(f"{name}.weight", values)

    matrix("token_embd", len(vocabulary.texts), WIDTH, WIDTH**0.5)
    matrix("output", len(vocabulary.texts), WIDTH, 3.0)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    kv_width = WIDTH // HEADS * KV_HEADS
    for layer in range(LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(WIDTH, np.float32))
        # Keys that stand out make attention choose: a mean over a long prefix would hide a single token.
        matrix(f"blk.{layer}.attn_q", WIDTH, WIDTH, 3.5)
        matrix(f"blk.{layer}.attn_k", kv_width, WIDTH, 3.5)
        matrix(f"blk.{layer}.attn_v", kv_width, WIDTH)
        matrix(f"blk.{layer}.attn_output", WIDTH, WIDTH)
        matrix(f"blk.{layer}.ffn_gate", FEED_FORWARD, WIDTH)
        matrix(f"blk.{layer}.ffn_up", FEED_FORWARD, WIDTH)
        matrix(f"blk.{layer}.ffn_down", WIDTH, FEED_FORWARD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
