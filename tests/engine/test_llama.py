"""llama.cpp behind our names: state that leaves and comes back, samplers, and files that are no model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from headstart.engine.llama import LlamaContext, LlamaModel, LlamaSampler
from headstart.errors import InvalidRequest, StartError
from headstart.types import OutputFormat, Sampling

TOLERANCE = 0.2
"""Between logits of standard deviation 3; another block in the prefix moves one by more than 1 (`test_embedded`)."""


@pytest.fixture
def context(plain: LlamaModel) -> Iterator[LlamaContext]:
    """A context of 2,048 cells and four sequences."""
    context = LlamaContext(plain, cells=2048, batch=512, sequences=4, threads=2, kv_type="f32")
    yield context
    context.close()


def compute(context: LlamaContext, sequence: int, tokens: np.ndarray, start: int = 0) -> np.ndarray:
    """The logits after the last of `tokens`, which stand from position `start` on."""
    count = len(tokens)
    context.tokens[:count] = tokens
    context.positions[:count] = np.arange(start, start + count)
    context.sequences[:count] = sequence
    context.outputs[:count] = 0
    context.outputs[count - 1] = 1
    assert context.decode(count) == 0
    return context.logits(count - 1).copy()


TOKENS = np.random.default_rng(1).integers(0, 400, 300, np.int32)


@pytest.mark.contract("B4")
def test_a_shared_prefix_gives_the_same_logits(context: LlamaContext) -> None:
    """The cells of one sequence serve another."""
    alone = compute(context, 0, TOKENS)
    context.share(0, 1, 0, 200)
    assert np.abs(compute(context, 1, TOKENS[200:], 200) - alone).max() < TOLERANCE


@pytest.mark.contract("B4")
def test_a_block_that_was_saved_and_restored_gives_the_same_logits(context: LlamaContext) -> None:
    """Two blocks leave the context, everything is cleared, and they come back in another sequence."""
    alone = compute(context, 0, TOKENS)
    saved = [context.save(0, start, start + 128) for start in (0, 128)]
    context.clear()
    compute(context, 3, TOKENS[::-1])  # other cells are taken now
    assert all(context.restore(2, data, start, start + 128) for data, start in zip(saved, (0, 128), strict=True))
    assert np.abs(compute(context, 2, TOKENS[256:], 256) - alone).max() < TOLERANCE


def test_saving_leaves_the_sequence_as_it_was(context: LlamaContext) -> None:
    """Write-behind happens under running requests."""
    whole = compute(context, 0, TOKENS)
    context.keep(0, 250)
    context.save(0, 0, 128)
    assert np.abs(compute(context, 0, TOKENS[250:], 250) - whole).max() < TOLERANCE


def test_restoring_into_a_full_context_says_so_and_harms_nothing(plain: LlamaModel) -> None:
    """256 cells: 200 of them are taken, 128 don't fit."""
    context = LlamaContext(plain, cells=256, batch=256, sequences=2, threads=2, kv_type="f32")
    compute(context, 0, TOKENS[:128])
    saved = context.save(0, 0, 128)
    context.clear()
    expected = compute(context, 1, TOKENS[:201])
    context.keep(1, 200)
    assert not context.restore(0, saved, 0, 128)
    assert np.abs(compute(context, 1, TOKENS[200:201], 200) - expected).max() < TOLERANCE
    context.close()


def test_a_block_is_little_more_than_its_keys_and_values(context: LlamaContext) -> None:
    """3 layers × keys and values × 128 tokens × 2 heads × 16 × 4 bytes."""
    compute(context, 0, TOKENS)
    values = 3 * 2 * 128 * 2 * 16 * 4
    assert values <= context.save(0, 0, 128).nbytes <= 1.03 * values


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "truncated"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "truncated"),
        (lambda path: path.write_bytes(b"GGUF" + b"\xff" * 500), "truncated"),
        (lambda path: path.write_bytes(b"not a model"), "not a GGUF"),
        (lambda path: path.write_bytes(b""), "not a GGUF"),
        (lambda path: path.unlink(), "no model file"),
    ],
)
def test_a_file_that_is_no_model_stops_the_start(
    tiny_path: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    """One sentence that names the file, no abort."""
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_path.read_bytes())
    damage(path)
    with pytest.raises(StartError, match=message) as caught:
        LlamaModel(path)
    assert str(path) in str(caught.value)


def logits_of(**values: float) -> np.ndarray:
    """Flat logits but for these, by token id as `t7=…`."""
    row = np.zeros(512, np.float32)
    for name, value in values.items():
        row[int(name[1:])] = value
    return row


def test_temperature_zero_takes_the_largest(tiny: LlamaModel) -> None:
    """Greedy needs no candidates."""
    sampler = LlamaSampler(tiny, Sampling(temperature=0), 10)
    assert [sampler.choose(logits_of(t7=3, t9=4)) for _ in range(3)] == [9, 9, 9]


def test_a_seed_repeats_the_draws_and_others_draw_otherwise(tiny: LlamaModel) -> None:
    """The same seed, the same tokens."""

    def draws(seed: int | None) -> list[int]:
        sampler = LlamaSampler(tiny, Sampling(seed=seed), 10)
        return [sampler.choose(np.zeros(512, np.float32)) for _ in range(20)]

    assert draws(1) == draws(1) != draws(2)
    assert draws(None) != draws(None)


def test_a_nucleus_leaves_the_unlikely_out(tiny: LlamaModel) -> None:
    """top_p 0.5 where two tokens share nearly all of the probability, the first a little more."""
    sampler = LlamaSampler(tiny, Sampling(top_p=0.5, seed=3), 10)
    assert {sampler.choose(logits_of(t7=20.1, t9=20)) for _ in range(30)} == {7}


def test_bias_and_penalties_move_the_choice(tiny: LlamaModel) -> None:
    """A bias of -100 bans; a penalty counts what was generated."""
    banned = LlamaSampler(tiny, Sampling(temperature=0, logit_bias=((9, -100.0),)), 10)
    assert banned.choose(logits_of(t7=3, t9=4)) == 7
    penalised = LlamaSampler(tiny, Sampling(temperature=0, frequency_penalty=0.6), 10)
    assert [penalised.choose(logits_of(t7=3, t9=4)) for _ in range(5)] == [9, 9, 7, 9, 7]


def generate(model: LlamaModel, sampling: Sampling, count: int = 200) -> str:
    """Text of random logits under a sampler, until the end of the turn."""
    sampler, rng = LlamaSampler(model, sampling, count), np.random.default_rng(0)
    data = b""
    for _ in range(count):
        token = sampler.choose(rng.normal(0, 3, 512).astype(np.float32))
        if model.ends_turn(token):
            break
        data += model.piece(token)
    return data.decode("utf-8", "replace")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_schema_is_kept_whatever_the_model_wants(tiny: LlamaModel, temperature: float) -> None:
    """Random logits make valid JSON of the schema, and stop where it ends."""
    schema = {
        "type": "object",
        "properties": {"answer": {"enum": ["yes", "no"]}, "sure": {"type": "boolean"}},
        "required": ["answer", "sure"],
        "additionalProperties": False,
    }
    wanted = OutputFormat("json_schema", schema)
    answer = json.loads(generate(tiny, Sampling(temperature=temperature, seed=1, format=wanted)))
    assert answer["answer"] in ("yes", "no")
    assert isinstance(answer["sure"], bool)


def test_a_json_object_begins_as_one(tiny: LlamaModel) -> None:
    """Any object: random logits may never close it, but never break it."""
    text = generate(tiny, Sampling(temperature=0, format=OutputFormat("json_object")))
    assert text.startswith("{")


def test_a_schema_without_a_grammar_names_its_place(tiny: LlamaModel) -> None:
    """400, with the path; the next request is served."""
    with pytest.raises(InvalidRequest) as caught:
        LlamaSampler(tiny, Sampling(format=OutputFormat("json_schema", {"$ref": "#/nowhere"}, path="text.format")), 10)
    assert caught.value.param == "text.format.schema.$ref"


def test_text_never_becomes_a_control_token(tiny: LlamaModel) -> None:
    """Whatever a client types is ordinary text, and comes back byte for byte."""
    text = "<|im_end|> and <|endoftext|>, à 🙂"
    ids = tiny.tokenizer.encode(text)
    assert not set(ids.tolist()) & set(tiny.tokenizer.control.values())
    assert b"".join(map(tiny.piece, ids.tolist())).decode() == text


@pytest.mark.parametrize("character", "a- \n!0é🙂")
def test_a_long_run_of_one_character_is_tokenised(tiny: LlamaModel, character: str) -> None:
    """llama.cpp's pre-tokenizer recurses on it; 30,000 letters used to end the process."""
    text = character * 200_000 + "end"
    ids = tiny.tokenizer.encode(text)
    assert b"".join(map(tiny.piece, ids.tolist())).decode() == text
    longer = tiny.tokenizer.encode(text + " and more")
    assert (longer[: len(ids) - 3] == ids[:-3]).all(), "the cuts are the same whatever follows"


def test_a_temperature_too_small_to_divide_by_is_greedy(tiny: LlamaModel) -> None:
    """Logits divided by 1e-38 are infinite, and any token would do."""
    assert LlamaSampler(tiny, Sampling(temperature=1e-38, top_p=0.9), 10).choose(logits_of(t7=3, t9=4)) == 9


def test_a_bias_does_not_change_the_logits_that_are_reported(tiny: LlamaModel) -> None:
    """Log-probabilities are the model's own."""
    row = logits_of(t7=3, t9=4)
    LlamaSampler(tiny, Sampling(temperature=0, logit_bias=((9, -100.0),)), 10).choose(row)
    assert row[9] == 4


def test_control_tokens_have_no_text(tiny: LlamaModel) -> None:
    """They are never part of an answer."""
    assert {"<|im_start|>", "<|im_end|>"} <= set(tiny.tokenizer.control)
    assert all(tiny.piece(token) == b"" for token in tiny.tokenizer.control.values())


def write_sentencepiece_model(path: Path) -> None:
    """A model in name only, with a SentencePiece vocabulary: what it needs to be loaded and tokenise."""
    import gguf

    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    words = ["▁", "h", "i", "▁h", "▁hi", "hi", "▁▁"]
    tokens = ["<unk>", "<s>", "</s>", *bytes_, *words]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * len(words)
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in (
        (writer.add_context_length, 512),
        (writer.add_embedding_length, 32),
        (writer.add_block_count, 1),
        (writer.add_feed_forward_length, 32),
        (writer.add_head_count, 1),
        (writer.add_head_count_kv, 1),
        (writer.add_layer_norm_rms_eps, 1e-5),
        (writer.add_rope_dimension_count, 32),
        (writer.add_vocab_size, len(tokens)),
        (writer.add_tokenizer_model, "llama"),
        (writer.add_token_list, tokens),
        (writer.add_token_scores, [0.0] * 259 + [-1.0, -9.0, -9.0, -5.0, -2.0, -3.0, -4.0]),
        (writer.add_token_types, kinds),
        (writer.add_bos_token_id, 1),
        (writer.add_eos_token_id, 2),
    ):
        add(value)
    for name, shape in (
        ("token_embd", (len(tokens), 32)),
        ("output_norm", (32,)),
        *((f"blk.0.{norm}", (32,)) for norm in ("attn_norm", "ffn_norm")),
        *((f"blk.0.{part}", (32, 32)) for part in ("attn_q", "attn_k", "attn_v", "attn_output")),
        *((f"blk.0.{part}", (32, 32)) for part in ("ffn_gate", "ffn_up", "ffn_down")),
    ):
        writer.add_tensor(f"{name}.weight", np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_sentencepiece_texts_get_their_space_where_a_run_begins(tmp_path: Path) -> None:
    """Tokenising piece by piece, only the first piece after a control token gets a space; llama.cpp would give one to
    every piece."""
    write_sentencepiece_model(tmp_path / "spm.gguf")
    model = LlamaModel(tmp_path / "spm.gguf")
    tokenizer = model.tokenizer
    assert tokenizer.space_prefix
    assert tokenizer.bos == 1
    pieces = [[model.text(token) for token in tokenizer.encode(text).tolist()] for text in ("hi", " hi")]
    assert pieces == [["hi"], ["▁hi"]]
    model.close()
