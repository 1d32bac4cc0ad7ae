"""The demo model: a real transformer with random weights, written as a GGUF in seconds, so that no weights are shipped.

Its words mean nothing; what it costs to compute them is real. Random weights alone would answer with shreds of 200
languages that never end, so the first RESERVED dimensions of the residual stream carry a few small facts, written into
them by hand. They make the answers English words in sentences that come to an end:

    the last token's own row       CONSTANT  ENDS  OPENS         1 for every token; 1 for "."; 1 for "." and a newline
                                       |      |      |
    three neurons of layer 0           v      v      v           ("wires": all that ever writes to these dimensions)
                                    FAVOUR  ENDED  OPENED
                                       |      |      |
    the rows of the tied output        v      v      v           FAVOUR: English words; ENDED: <|im_end|>;
                                            logits               OPENED: capitals, and nothing else

Three wires more end what a grammar makes it write, which is JSON. A row knows nothing of what came before it, so
strings have words of their own, which plain text never has:

    QUOTES → QUOTED     a quotation mark: next the first word of a string
    SPELLS → SPELLED    a word of a string: next another, or the closing mark
    VALUES → CLOSED     the end of a value: rather "}", "]" or <|im_end|> than "," or another digit. All of these stay
                        below the words, so that prompts may end in a bracket
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from headstart.engine.demo_vocabulary import PRE_TOKENIZER, Vocabulary, o200k_vocabulary, small_vocabulary

FORMAT = 2
"""Goes up with every change to what is written, so that an old file is not mistaken for a new one."""

SIGNS = (b"{", b"}", b"[", b"]", b":", b">")
LITERALS = (b"true", b"false", b"null")
"""The tokens of JSON, and of the brackets around calls, that are told apart."""

Progress = Callable[[str, float], None]
"""Called with what is being done and how much of all is done, 0 to 1."""
Floats = npt.NDArray[np.float32]
Q8_0 = gguf.GGMLQuantizationType.Q8_0

RESERVED = 32
"""Dimensions that carry the facts: one block of Q8_0, so that they have a scale of their own."""
FAVOUR, CONSTANT, ENDS, OPENS, ENDED, OPENED, QUOTES, SPELLS, VALUES, QUOTED, SPELLED, CLOSED = range(12)
WIRES = ((ENDS, ENDED), (OPENS, OPENED), (QUOTES, QUOTED), (SPELLS, SPELLED), (VALUES, CLOSED))
"""Where a fact about a token is read and where it is written."""

ROW = 0.02
"""Root mean square of a token's row outside the reserved dimensions; small beside what the layers add, or a tied model
would repeat its last token for ever."""
CODE = 127 * 0.0107
"""What 127 stands for in a row's reserved dimensions."""
MARK = 30
"""A fact about a token, in 127ths of CODE: small beside CONSTANT, which must stay what the first norm divides by."""
WIRE = 4.0
"""What a wire writes for a fact that holds."""
LOGIT = 0.5
"""Logits that one 127th in FAVOUR, ENDED or OPENED is worth."""
SPREAD = 3.0
"""Standard deviation of the words' logits: at temperature 1 some tens of words compete for every place."""
ATTENTION_SPREAD = 3.0
"""Standard deviation of the attention scores: sharp enough that answers depend on where everything stands."""


@dataclass(frozen=True, slots=True)
class DemoShape:
    """Sizes of a demo model. `vocabulary`: tokens of o200k_base to keep; None keeps all and says so in the metadata."""

    name: str
    width: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    context: int
    vocabulary: int | None
    quantised: bool
    stops: int
    """How eagerly sentences and answers end, in FAVOUR; found by trying."""


DEMO = DemoShape("demo", 512, 8, 8, 2, 1536, 131_072, vocabulary=None, quantised=True, stops=0)
"""What `headstart serve` runs without a model: 4.6 k tokens cold take seconds on two cores. About 135 MB."""
TINY = DemoShape("tiny", 128, 2, 4, 2, 256, 16_384, vocabulary=512, quantised=False, stops=-13)
"""For tests: F32 weights, so that runs can be compared closely. About 1 MB."""


def demo_model_path(data_dir: Path, shape: DemoShape = DEMO) -> Path:
    """Where the model of this shape and format belongs."""
    return data_dir / f"{shape.name}-model-v{FORMAT}.gguf"


def write_demo_model(
    path: Path,
    *,
    chat_template: str,
    seed: int = 0,
    shape: DemoShape = DEMO,
    progress: Progress | None = None,
) -> None:
    """Write the model; the same seed and shape give the same bytes.

    The file appears under its name when it is whole: several processes may write it at once, and one that dies leaves
    nothing behind that could be taken for a model. Raises `OSError` where the directory can't be written.
    """
    report: Progress = progress or (lambda _step, _done: None)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as directory:
        partial = Path(directory) / path.name
        report("reading the vocabulary", 0.0)
        vocabulary = o200k_vocabulary() if shape.vocabulary is None else small_vocabulary(shape.vocabulary)
        writer = gguf.GGUFWriter(partial, "llama")
        _add_metadata(writer, shape, vocabulary, chat_template)
        report("drawing random weights", 0.4)
        for name, array in _tensors(shape, vocabulary, np.random.default_rng(seed)):
            writer.add_tensor(
                name, array, raw_dtype=gguf.GGMLQuantizationType.Q8_0 if array.dtype == np.uint8 else None
            )
        report("writing the file", 0.6)
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
        report("done", 1.0)


def _add_metadata(writer: gguf.GGUFWriter, shape: DemoShape, vocabulary: Vocabulary, chat_template: str) -> None:
    writer.add_name(f"Headstart {shape.name} model (random weights)")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(500_000.0)
    writer.add_vocab_size(len(vocabulary.texts))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if shape.quantised else gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(vocabulary.texts)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.controls["<|endoftext|>"])
    writer.add_eos_token_id(vocabulary.controls["<|im_end|>"])
    writer.add_eot_token_id(vocabulary.controls["<|im_end|>"])
    writer.add_pad_token_id(vocabulary.controls["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(chat_template)
    if shape.vocabulary is None:
        writer.add_string("headstart.tokenizer", "o200k_base")  # the server then counts with OpenAI's own tokenizer


def _tensors(
    shape: DemoShape, vocabulary: Vocabulary, rng: np.random.Generator
) -> Iterator[tuple[str, npt.NDArray[np.uint8] | Floats]]:
    width, feed_forward = shape.width, shape.feed_forward
    kv_width = width // shape.heads * shape.kv_heads
    read = float(np.sqrt((CODE**2 + (width - RESERVED) * ROW**2) / width))  # size of a row: the first norms' divisor
    first_norm = _norm(width, reserved=1.0, rest=read / ROW)
    yield "token_embd.weight", _embedding(shape, vocabulary, rng)
    for layer in range(shape.layers):

        def draw(rows: int, columns: int, size: float = 1.0) -> Floats:
            values: Floats = rng.standard_normal((rows, columns), np.float32) * np.float32(size / columns**0.5)
            return values

        gate, up, down = draw(feed_forward, width), draw(feed_forward, width), draw(width, feed_forward)
        # Only wires write facts, and the bare row has to reach them: layer 0's attention adds nothing.
        output = draw(width, width, 0.0 if layer == 0 else 1.0)
        down[:RESERVED] = output[:RESERVED] = 0.0
        gate[:, :RESERVED] = up[:, :RESERVED] = 0.0
        if layer == 0:
            _wire(gate, up, down, CODE / read)
        matrices = {
            "attn_q": draw(width, width, ATTENTION_SPREAD**0.5),
            "attn_k": draw(kv_width, width, ATTENTION_SPREAD**0.5),
            "attn_v": draw(kv_width, width),
            "attn_output": output,
            "ffn_gate": gate,
            "ffn_up": up,
            "ffn_down": down,
        }
        for name, matrix in matrices.items():
            stored = gguf.quants.quantize(matrix, Q8_0) if shape.quantised else matrix
            yield f"blk.{layer}.{name}.weight", stored
        blind = _norm(width, reserved=0.0, rest=1.0)
        yield f"blk.{layer}.attn_norm.weight", blind if layer else first_norm * (blind > 0)
        yield f"blk.{layer}.ffn_norm.weight", blind if layer else first_norm
    yield "output_norm.weight", _output_norm(shape)


def _norm(width: int, *, reserved: float, rest: float) -> Floats:
    weights = np.full(width, rest, np.float32)
    weights[:RESERVED] = reserved
    return weights


def _wire(gate: Floats, up: Floats, down: Floats, constant: float) -> None:
    """Turn the first neurons into wires. `constant`: what CONSTANT reads after the norm."""
    marked = constant * MARK / 127
    wires = ((CONSTANT, constant, FAVOUR), *((source, marked, target) for source, target in WIRES))
    for neuron, (source, value, target) in enumerate(wires):
        gate[neuron] = up[neuron] = down[:, neuron] = 0.0
        gate[neuron, CONSTANT] = 8.0 / constant  # silu(8) is 8: the neuron is open
        up[neuron, source] = 1.0 / value
        down[target, neuron] = WIRE / 8.0


def _output_norm(shape: DemoShape) -> Floats:
    """Scales the logits: SPREAD from the random dimensions, LOGIT per 127th from the facts."""
    added = 0.4 * (shape.layers - 1) + 0.36 * shape.layers  # mean square of what attention and feed-forward add up to
    hidden = np.sqrt(added + 1.5 * WIRE**2 / shape.width)
    weights = _norm(shape.width, reserved=0.0, rest=SPREAD / (ROW * float(np.sqrt(shape.width - RESERVED))))
    weights[[FAVOUR, ENDED, OPENED]] = LOGIT * hidden / (WIRE * CODE / 127)
    weights[[QUOTED, SPELLED, CLOSED]] = 4 * weights[FAVOUR]  # so rows hold less of these, which reaches the output too
    return weights


def _embedding(shape: DemoShape, vocabulary: Vocabulary, rng: np.random.Generator) -> npt.NDArray[np.uint8] | Floats:
    rows = len(vocabulary.texts)
    facts, sizes = _facts(vocabulary, shape.stops)
    codes = rng.integers(-127, 128, (rows, shape.width), np.int8)
    codes[:, :RESERVED] = facts
    scales = np.empty((rows, shape.width // RESERVED), np.float16)
    scales[:, 0] = CODE / 127
    scales[:, 1:] = (sizes * ROW * np.sqrt(3) / 127)[:, None]  # a uniform draw's root mean square is its end / sqrt(3)
    if not shape.quantised:
        return codes * np.repeat(scales.astype(np.float32), RESERVED, axis=1)
    # A block of Q8_0 is an fp16 scale and 32 int8: written as they are, since quantising 100 M floats takes seconds.
    blocks = np.empty((rows, shape.width // RESERVED, 2 + RESERVED), np.uint8)
    blocks[:, :, :2] = scales[:, :, None].view(np.uint8)
    blocks[:, :, 2:] = codes.reshape(rows, -1, RESERVED).view(np.uint8)
    return blocks.reshape(rows, -1)


def _facts(vocabulary: Vocabulary, stops: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """Every token's reserved dimensions in 127ths, and the size of its random ones against an ordinary token's."""
    ids = {token: i for i, token in enumerate(vocabulary.ordinary)}
    words, full_stop, comma, newline = vocabulary.words, ids[b"."], ids[b","], ids[b"\n"]
    end, separator = vocabulary.controls["<|im_end|>"], vocabulary.controls["<|im_sep|>"]
    facts = np.zeros((len(vocabulary.texts), RESERVED), np.int8)
    sizes = np.ones(len(vocabulary.texts), np.float32)
    facts[:, CONSTANT] = 127
    facts[:, FAVOUR] = -60
    facts[full_stop, [ENDS, OPENS]] = facts[newline, OPENS] = facts[separator, OPENS] = MARK
    for ids_, favour, opened in ((words.lower, 0, -30), (words.function, 4, -30), (words.capital, -30, 30)):
        facts[ids_, FAVOUR], facts[ids_, OPENED] = favour, opened
    # Punctuation competes with all words together, whose mass at this spread is worth ln(n) + SPREAD² / 2 logits.
    crowd, crowd_of_capitals = (
        (np.log(len(ids_)) + SPREAD**2 / 2) / LOGIT for ids_ in (words.lower + words.function, words.capital)
    )
    facts[full_stop, [FAVOUR, OPENED]], sizes[full_stop] = (crowd - 9 + stops, -60), 1.0
    facts[comma, [FAVOUR, OPENED]] = crowd - 15 + stops, -60
    facts[end, [FAVOUR, ENDED]], sizes[end] = (-60, 60 + crowd_of_capitals - 1 + stops), 0.7
    _add_json(facts, sizes, vocabulary, ids)
    return facts, sizes


def _add_json(facts: npt.NDArray[np.int8], sizes: Floats, vocabulary: Vocabulary, ids: Mapping[bytes, int]) -> None:
    """The facts that end strings, values and calls. Marks of JSON that stand alone are likelier than tokens of several,
    and all far less likely than words."""
    words, quote, end = vocabulary.words, ids[b'"'], vocabulary.controls["<|im_end|>"]
    for token, i in ids.items():
        if token[-1:] == b'"':
            facts[i, [QUOTES, VALUES]] = MARK
        elif token[-1:] in b"}]>0123456789" or token.strip() in LITERALS:
            facts[i, VALUES] = MARK
        elif b'"' in token:
            facts[i, FAVOUR] = -100  # begins a string with something other than a word of its own
        if token.isdigit():
            facts[i, CLOSED] = -10
        elif token in SIGNS or token in LITERALS:
            facts[i, FAVOUR] = -45
    # The same for all of plain text: what a row holds here also reaches the output, a little.
    plain = [*words.lower, *words.function, *words.capital, ids[b"."], ids[b","], end]
    facts[plain, QUOTED] = facts[plain, SPELLED] = -8
    facts[words.opening, QUOTED] = facts[words.inner, SPELLED] = 20
    facts[words.opening, SPELLS] = facts[words.inner, SPELLS] = MARK
    facts[quote, [FAVOUR, SPELLED]], sizes[quote] = (-20, 16), 1.2
    closers = [ids[b"}"], ids[b"]"], end]
    facts[closers, CLOSED], sizes[closers] = (5, 5, 10), 0.7
    for token, level in ((b",", -31), (b".", -35), (b"\n", -34)):
        facts[ids[token], CLOSED] = (level - facts[ids[token], FAVOUR]) / 4
