"""The generated model: what llama.cpp makes of it, and that it is written whole or not at all."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import pytest

from headstart.engine.demo_model import DEMO, TINY, DemoShape, demo_model_path, write_demo_model
from headstart.engine.llama import LlamaContext, LlamaModel, LlamaSampler
from headstart.prompt.calls import HERMES
from headstart.types import Calls, Function, OutputFormat, Sampling

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
PROMPT = "<|im_start|>user\nWhat is overfitting?<|im_end|>\n<|im_start|>assistant\n"
SMALL_WITH_ALL_TOKENS = DemoShape("small", 64, 1, 2, 1, 64, 4_096, vocabulary=None, quantised=True, stops=-1)
"""The demo model's vocabulary and file type around a model that is computed at once."""


@pytest.fixture(scope="module")
def encoding() -> Any:
    """OpenAI's o200k_base."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the package's own
        import bpe_openai

        return bpe_openai.get_encoding("o200k_base")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, written once."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_demo_model(path, chat_template=TEMPLATE, shape=TINY)
    return path


@pytest.fixture(scope="module")
def whole_vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with all of o200k_base, written once."""
    path = tmp_path_factory.mktemp("small") / "small.gguf"
    write_demo_model(path, chat_template=TEMPLATE, shape=SMALL_WITH_ALL_TOKENS)
    return path


def greedy(llama: llama_cpp.Llama, prompt: str, limit: int) -> list[int]:
    """Up to `limit` greedy tokens after the prompt, the end token included."""
    tokens = llama.tokenize(prompt.encode(), add_bos=False, special=True)
    answer: list[int] = []
    for token in llama.generate(tokens, temp=0.0, repeat_penalty=1.0):
        answer.append(token)
        if token == llama.token_eos() or len(answer) == limit:
            break
    return answer


def test_tiny_model_loads_and_generates(tiny: Path) -> None:
    """llama.cpp computes it: an answer of several different tokens, decided by clear margins."""
    llama = llama_cpp.Llama(str(tiny), n_ctx=512, logits_all=True, flash_attn=True, verbose=False)
    answer = greedy(llama, PROMPT, 24)
    assert len(set(answer)) > 4
    scores = np.sort(np.asarray(llama.scores[: llama.n_tokens]), axis=1)
    assert np.median(scores[:, -1] - scores[:, -2]) > 0.1
    llama.close()


def test_quantised_model_generates_and_ends(whole_vocabulary: Path) -> None:
    """The Q8_0 blocks that are written by hand are what llama.cpp reads: English words, then an end."""
    llama = llama_cpp.Llama(str(whole_vocabulary), n_ctx=1024, flash_attn=True, verbose=False)
    tokens = llama.tokenize(PROMPT.encode(), add_bos=False, special=True)
    answer: list[int] = []
    for token in llama.generate(tokens, temp=1.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0):
        if token == llama.token_eos() or len(answer) == 900:
            break
        answer.append(token)
    text = llama.detokenize(answer).decode()
    assert text.isascii()
    assert text.endswith(".")
    llama.close()


TEXT, INTEGER = {"type": "string"}, {"type": "integer"}


def an_object(**properties: Any) -> dict[str, Any]:
    """A schema of an object with all of these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def calling(*functions: Function, several: bool = False) -> Sampling:
    """What demands calls of these functions."""
    return Sampling(calls=Calls(HERMES, functions, required=True, several=several))


def format_of(schema: dict[str, Any]) -> Sampling:
    """What demands JSON of this schema."""
    return Sampling(format=OutputFormat("json_schema", schema))


DEMANDS = {
    "strings": format_of(an_object(colour=TEXT, n=INTEGER)),
    "numbers": format_of(an_object(n=INTEGER, price={"type": "number"}, sold={"type": "boolean"})),
    "list": format_of(an_object(tags={"type": "array", "items": TEXT})),
    "nested": format_of(an_object(steps={"type": "array", "items": an_object(why=TEXT, result=INTEGER)}, answer=TEXT)),
    "forced": calling(Function("weather", an_object(city=TEXT), True, "tools[0]")),
    "parallel": calling(
        Function("turn", an_object(to={"enum": ["left", "right"]}), True, "tools[0]"),
        Function("light", an_object(to={"enum": ["on", "off"]}), True, "tools[1]"),
        several=True,
    ),
}


def length(context: LlamaContext, model: LlamaModel, sampling: Sampling, limit: int = 300) -> int:
    """Tokens of the answer, `limit` if it has no end before."""
    sampler = LlamaSampler(model, sampling, limit)
    context.clear()
    new, position = model.tokenizer.encode("Extract the facts.").tolist(), 0
    new.append(model.control_token("<|im_sep|>"))
    for count in range(limit):
        context.tokens[: len(new)] = new
        context.positions[: len(new)] = range(position, position + len(new))
        context.sequences[: len(new)] = context.outputs[: len(new)] = 0
        context.outputs[len(new) - 1] = 1
        assert context.decode(len(new)) == 0
        position += len(new)
        token = sampler.choose(context.logits(len(new) - 1))
        if model.ends_turn(token):
            sampler.close()
            return count
        new = [token]
    sampler.close()
    return limit


@pytest.fixture(scope="module", params=[(TINY, 5), (DEMO, 2)], ids=["tiny", "demo"])
def answering(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LlamaModel, LlamaContext, int]]:
    """A model and its context, and how many seeds there is time for."""
    shape, seeds = request.param
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    write_demo_model(path, chat_template=TEMPLATE, shape=shape)
    model = LlamaModel(path)
    context = LlamaContext(model, cells=512, batch=64, sequences=1, threads=2)
    yield model, context, seeds
    context.close()
    model.close()


@pytest.mark.parametrize("demand", DEMANDS.values(), ids=DEMANDS)
def test_structured_output_ends(answering: tuple[LlamaModel, LlamaContext, int], demand: Sampling) -> None:
    """Strings, numbers, lists and calls come to an end by themselves, drawn or greedy."""
    model, context, seeds = answering
    drawn = [length(context, model, replace(demand, seed=seed)) for seed in range(seeds)]
    assert max(*drawn, length(context, model, replace(demand, temperature=0.0))) < 250


def test_metadata(tiny: Path, whole_vocabulary: Path) -> None:
    """The template, the end token, and which tokenizer counts are in the file."""
    whole, small = (
        llama_cpp.Llama(str(path), vocab_only=True, verbose=False).metadata for path in (whole_vocabulary, tiny)
    )
    assert whole["tokenizer.chat_template"] == TEMPLATE
    assert whole["headstart.tokenizer"] == "o200k_base"
    assert whole["tokenizer.ggml.eos_token_id"] == "200265"
    assert whole["tokenizer.ggml.add_bos_token"] == "false"
    assert "headstart.tokenizer" not in small


def test_tokens_equal_openais(whole_vocabulary: Path, encoding: Any) -> None:
    """English and code become the same ids as in OpenAI's tokenizer."""
    llama = llama_cpp.Llama(str(whole_vocabulary), vocab_only=True, verbose=False)
    texts = [
        "You are a highly knowledgeable assistant specialized in machine learning.\n"
        "Answer questions with detailed, structured explanations, including examples when relevant.\n",
        "What's regularization? It costs $1,234.50 — or doesn't it?",
        Path(__file__).read_text(),
    ]
    for text in texts:
        expected = encoding.encode_ordinary(text)
        assert llama.tokenize(text.encode(), add_bos=False) == expected
        assert llama.detokenize(expected) == text.encode()
    llama.close()


@pytest.mark.parametrize("shape", [TINY, SMALL_WITH_ALL_TOKENS], ids=lambda shape: shape.name)
def test_token_texts_round_trip(shape: DemoShape, encoding: Any, request: pytest.FixtureRequest) -> None:
    """A token's bytes are OpenAI's, and the control tokens are recognised in a prompt."""
    path = request.getfixturevalue("tiny" if shape is TINY else "whole_vocabulary")
    llama = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    last = 500 if shape is TINY else 199_997
    for token in (*range(256), 300, last):
        assert llama.detokenize([token]) == encoding.decode_single_token_bytes(token)
    ids = [llama.tokenize(f"<|im_{name}|>".encode(), add_bos=False, special=True) for name in ("start", "end", "sep")]
    first = 509 if shape is TINY else 200_264
    assert ids == [[first], [first + 1], [first + 2]]
    llama.close()


def test_same_seed_same_bytes(tiny: Path, tmp_path: Path) -> None:
    """The model is a function of its seed."""
    write_demo_model(tmp_path / "again.gguf", chat_template=TEMPLATE, shape=TINY)
    write_demo_model(tmp_path / "other.gguf", chat_template=TEMPLATE, shape=TINY, seed=1)
    assert (tmp_path / "again.gguf").read_bytes() == tiny.read_bytes()
    assert (tmp_path / "other.gguf").read_bytes() != tiny.read_bytes()


def test_a_crash_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If writing fails half-way there is no file under the final name, nor a partial one beside it."""

    def fail(writer: gguf.GGUFWriter) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", fail)
    with pytest.raises(OSError, match="No space left"):
        write_demo_model(tmp_path / "model.gguf", chat_template=TEMPLATE, shape=TINY)
    assert list(tmp_path.iterdir()) == []


def test_concurrent_writers(tiny: Path, tmp_path: Path) -> None:
    """Whoever is last wins, and a reader never sees half a file."""
    path = tmp_path / "model.gguf"
    threads = [
        threading.Thread(target=write_demo_model, args=(path,), kwargs={"chat_template": TEMPLATE, "shape": TINY})
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() == tiny.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_progress(tmp_path: Path) -> None:
    """The caller hears what is being done, up to the end."""
    heard: list[tuple[str, float]] = []
    write_demo_model(
        tmp_path / "model.gguf", chat_template="", shape=TINY, progress=lambda step, done: heard.append((step, done))
    )
    assert heard[0] == ("reading the vocabulary", 0.0)
    assert [done for _, done in heard] == sorted(done for _, done in heard)
    assert heard[-1][1] == 1.0


def test_path_names_shape_and_format(tmp_path: Path) -> None:
    """A change of the format or shape asks for another file."""
    assert demo_model_path(tmp_path).name == "demo-model-v2.gguf"
    assert demo_model_path(tmp_path, TINY) != demo_model_path(tmp_path, DEMO)
