"""llama.cpp through llama-cpp-python's low-level API: a model, its tokenizer, a context, a sampler. Only this file
imports `llama_cpp`.

    LlamaModel ── weights and vocabulary, read-only, any thread
      ├─ LlamaTokenizer    text -> ids, for `prompt`
      ├─ LlamaContext      cells and batch, owned by the engine's thread
      └─ LlamaSampler      one per request: logits -> id

A context's cells hold keys and values. A cell belongs to one or more *sequences*, small numbers; sharing a prefix adds
a sequence to the cells that are there and copies nothing.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Ordered
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

# Read when the library is loaded. llama.cpp's threads meet at hundreds of barriers per token, and by default spin
# there for long: two engines on the same cores nearly stop (docs/performance.md, Barriers). Ours sleep after a short
# spin. And an abort must not start a debugger.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
os.environ.setdefault("GGML_NO_BACKTRACE", "1")

import llama_cpp as ll
from llama_cpp.llama_grammar import JSON_GBNF, json_schema_to_gbnf

from headstart.engine.call_grammar import OpenerWatch, answer_grammar
from headstart.engine.joined import Joiner
from headstart.engine.text import shown
from headstart.errors import InvalidRequest, StartError
from headstart.types import BLOCK_TOKENS, Sampling, TokenIds

log = logging.getLogger("headstart.llama")

Logits = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

Memory = Literal["cells", "window", "state"]
"""What a model keeps of a prefix.

    cells   keys and values of every token: may be cut, shared and saved anywhere
    window  so too, if the cache is full-size and no cell has a single owner: llama.cpp takes such a cell for free
            once it is behind its owner's window, even before empty ones. Every sequence gets a twin that owns the same
    state   a running sum of all tokens, the only one there is, and for hybrids cells besides. Cells may be shared and
            saved, and a snapshot of the sum, taken at the very token, makes a prefix of them
"""
UNPROVEN = frozenset({"deepseek4", "dflash", "dots3note", "glm5-next", "minimax-m3", "qwen4exp"})
"""Architectures with a cache of their own kind in llama.cpp, of which not all takes part in saving or sharing alike."""
PARTIAL = ll.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY

KV_TYPES: Mapping[str, int] = {"f32": 0, "f16": 1}  # ggml_type; measured: f16 is the fastest that keeps precision
LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR, 5: logging.DEBUG}
LONGEST_RUN = 8_000
"""Characters without (or of) white space that llama.cpp is given at once: its pre-tokenizers recurse on such a run, and
30,000 overflow the stack."""
COLDEST = 1e-6
"""Temperatures under this are greedy: logits divided by them are infinite."""
CANDIDATE = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])  # llama_token_data
RANDOM_SEED = 0xFFFFFFFF  # LLAMA_DEFAULT_SEED: llama.cpp draws one


@ll.llama_log_callback  # type: ignore[untyped-decorator]  # a ctypes function type
def _forward_log(level: int, text: bytes, _data: object) -> None:
    log.log(LEVELS.get(level, logging.DEBUG), "%s", text.decode("utf-8", "replace").rstrip())


ll.llama_log_set(_forward_log, ctypes.c_void_p(0))
ll.llama_backend_init()


class LlamaModel:
    """A GGUF's weights and vocabulary. Raises `StartError` if llama.cpp can't load it."""

    def __init__(self, path: Path, *, gpu_layers: int = -1) -> None:
        if not path.is_file():
            raise StartError(f"There is no model file {path}.")
        try:
            with path.open("rb") as file:
                if file.read(4) != b"GGUF":
                    raise StartError(f"{path} is not a GGUF file: it doesn't begin with 'GGUF'.")
        except OSError as error:
            raise StartError(f"The model file {path} can't be read: {error.strerror}.") from error
        params = ll.llama_model_default_params()
        params.n_gpu_layers = gpu_layers if gpu_layers >= 0 else 999
        # SentencePiece vocabularies put a space before text; which texts begin a run is for `prompt` to say, which
        # tokenises a prompt in pieces: llama.cpp is told not to, and `space_prefix` tells `prompt`.
        overrides = (ll.llama_model_kv_override * 2)()
        overrides[0].tag, overrides[0].key = ll.LLAMA_KV_OVERRIDE_TYPE_BOOL, b"tokenizer.ggml.add_space_prefix"
        overrides[0].value.val_bool = False
        params.kv_overrides = overrides
        self._model = ll.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise StartError(
                f"llama.cpp can't load {path}: the file may be truncated, or its architecture unknown to this version. "
                "Run with HEADSTART_LOG=debug to see llama.cpp's own words, or download the file again."
            )
        self.vocab = ll.llama_model_get_vocab(self._model)
        self.vocabulary_size: int = ll.llama_vocab_n_tokens(self.vocab)
        self.context_length: int = ll.llama_model_n_ctx_train(self._model)
        self._pieces: dict[int, bytes] = {}

    @property
    def handle(self) -> Any:
        """llama.cpp's pointer."""
        return self._model

    @cached_property
    def description(self) -> str:
        """The file's own name for the model, or as `llama 7B Q8_0`."""
        buffer = ctypes.create_string_buffer(256)
        ll.llama_model_desc(self._model, buffer, len(buffer))
        return self.metadata("general.name") or buffer.value.decode("utf-8", "replace")

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return int(ll.llama_model_size(self._model))

    @cached_property
    def memory(self) -> Memory | None:
        """How the memory of a prefix is reused; None where llama.cpp has no way that is known to be right."""
        window = ll.llama_model_n_swa(self._model)
        if self.metadata("general.architecture") in UNPROVEN:
            return None
        if ll.llama_model_is_recurrent(self._model) or ll.llama_model_is_hybrid(self._model):
            return "state" if not window else None  # llama.cpp has no snapshot of a hybrid with a window
        if not window:
            return "cells"
        return "window" if window >= BLOCK_TOKENS else None  # a saved block lacks what is behind the window at its end

    @property
    def cuttable(self) -> bool:
        """Whether the memory of a prefix can be cut off at any position and reused."""
        return self.memory in ("cells", "window")

    def metadata(self, key: str) -> str | None:
        """A value of the GGUF's metadata as text, or None."""
        size = ll.llama_model_meta_val_str(self._model, key.encode(), None, 0)
        if size < 0:
            return None
        buffer = ctypes.create_string_buffer(size + 1)
        ll.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    @cached_property
    def chat_template(self) -> str | None:
        """The GGUF's own Jinja template, or None."""
        return self.metadata("tokenizer.chat_template")

    def text(self, token: int) -> str:
        """A token as the vocabulary spells it; "" for -1."""
        return ll.llama_vocab_get_text(self.vocab, token).decode("utf-8", "replace") if token >= 0 else ""

    @property
    def bos(self) -> int:
        """The begin-of-sequence token, or -1."""
        return int(ll.llama_vocab_bos(self.vocab))

    @property
    def eos(self) -> int:
        """The end-of-sequence token, or -1."""
        return int(ll.llama_vocab_eos(self.vocab))

    @cached_property
    def space_prefix(self) -> bool:
        """Whether a SentencePiece vocabulary has a space before the first word of a text."""
        sentencepiece = ll.llama_vocab_type(self.vocab) == ll.LLAMA_VOCAB_TYPE_SPM
        return sentencepiece and self.metadata("tokenizer.ggml.add_space_prefix") != "false"

    def ends_turn(self, token: int) -> bool:
        """Whether generation stops at this token."""
        return bool(ll.llama_vocab_is_eog(self.vocab, token))

    def piece(self, token: int) -> bytes:
        """The bytes a token adds to the text; none for control tokens. Remembered."""
        piece = self._pieces.get(token)
        if piece is None:
            buffer = ctypes.create_string_buffer(256)
            size = ll.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, False)
            if size < 0:
                buffer = ctypes.create_string_buffer(-size)
                size = ll.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, False)
            piece = self._pieces[token] = buffer.raw[: max(size, 0)]
        return piece

    def control_token(self, text: str) -> int | None:
        """The control token that is spelled so, if there is one."""
        data, ids = text.encode(), (ll.llama_token * 2)()
        alone = ll.llama_tokenize(self.vocab, data, len(data), ids, len(ids), False, True) == 1
        control = alone and ll.llama_vocab_get_attr(self.vocab, ids[0]) & ll.LLAMA_TOKEN_ATTR_CONTROL
        return int(ids[0]) if control else None

    @cached_property
    def tokenizer(self) -> LlamaTokenizer:
        """The GGUF's own tokenizer."""
        return LlamaTokenizer(self)

    def close(self) -> None:
        """Free the weights. Contexts and samplers must be closed before."""
        if self._model:
            ll.llama_model_free(self._model)
            self._model = None


class LlamaTokenizer:
    """`prompt.tokenizer.Tokenizer` on a GGUF's vocabulary."""

    def __init__(self, model: LlamaModel) -> None:
        self._vocab = model.vocab
        self.token_bytes = np.array([len(model.piece(token)) for token in range(model.vocabulary_size)], np.int32)
        special = ll.LLAMA_TOKEN_ATTR_CONTROL
        self.control: Mapping[str, int] = {
            model.text(token): token
            for token in range(model.vocabulary_size)
            if ll.llama_vocab_get_attr(model.vocab, token) & special
        }
        self.bos: int | None = model.bos if ll.llama_vocab_get_add_bos(model.vocab) and model.bos >= 0 else None
        self.space_prefix = model.space_prefix

    def encode(self, text: str) -> TokenIds:
        """Ordinary text to ids; a control token's text stays ordinary."""
        if len(text) <= LONGEST_RUN:
            return self._encode(text)
        cuts = [
            at
            for run in re.finditer(r"\S+|\s+", text)
            for at in range(run.start() + LONGEST_RUN, run.end(), LONGEST_RUN)
        ]
        return np.concatenate([self._encode(text[a:b]) for a, b in pairwise([0, *cuts, len(text)])])

    def _encode(self, text: str) -> TokenIds:
        data = text.encode("utf-8", "replace")
        ids = np.empty(len(data) + 2, np.int32)
        count = ll.llama_tokenize(
            self._vocab, data, len(data), ids.ctypes.data_as(ctypes.POINTER(ll.llama_token)), len(ids), False, False
        )
        assert count >= 0, "a text has at most one token per byte"
        return ids[:count].copy()


class LlamaContext:
    """Cells, and one batch that is filled through NumPy views. For one thread.

    `cells` is the number of tokens that all sequences may hold together, `batch` the most tokens of one decode,
    `sequences` how many numbers there are for them: 0 … sequences - 1, and one more is kept for moving blocks.
    (For windows, each has a twin behind that: sequence + sequences + 1.)
    """

    def __init__(
        self,
        model: LlamaModel,
        *,
        cells: int,
        batch: int,
        sequences: int,
        threads: int,
        kv_type: str = "f16",
    ) -> None:
        params = ll.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = cells, batch, min(batch, 512)
        owners = 2 if model.memory == "window" else 1
        params.n_seq_max = owners * sequences + 1
        params.n_outputs_max = params.n_seq_max  # one row of logits per sequence, not per token
        if params.n_seq_max > ll.llama_max_parallel_sequences():
            most = (ll.llama_max_parallel_sequences() - 1) // owners
            raise StartError(f"With this model at most {most} sequences and hot prefixes together are possible.")
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = 1  # required: unified cells without it are twenty times slower (docs/performance.md)
        params.kv_unified, params.swa_full, params.no_perf = True, model.memory == "window", True
        params.type_k = params.type_v = KV_TYPES[kv_type]
        self._context = ll.llama_init_from_model(model.handle, params)
        if not self._context:
            raise StartError(f"llama.cpp can't make a context of {cells} tokens for this model; try a smaller one.")
        self._memory = ll.llama_get_memory(self._context)
        if not self._memory or ll.llama_model_has_encoder(model.handle):
            raise StartError("This model doesn't generate text token by token from a cache of keys and values.")
        self._vocabulary = model.vocabulary_size
        self._scratch = sequences
        self._batch = ll.llama_batch_init(batch, 0, 1)
        as_array = np.ctypeslib.as_array
        self.tokens: TokenIds = as_array(self._batch.token, (batch,))
        self.positions: npt.NDArray[np.int32] = as_array(self._batch.pos, (batch,))
        self.outputs: npt.NDArray[np.int8] = as_array(self._batch.logits, (batch,))
        as_array(self._batch.n_seq_id, (batch,))[:] = owners
        # Point each token's list of sequences at its row of one array.
        self._owners: npt.NDArray[np.int32] = np.zeros((batch, owners), np.int32)
        self.sequences: npt.NDArray[np.int32] = self._owners[:, 0]
        self._own_lists = ctypes.cast(self._batch.seq_id, ctypes.c_void_p)
        self._lists = (ctypes.POINTER(ctypes.c_int32) * (batch + 1))()
        base, step = self._owners.ctypes.data, self._owners.strides[0]
        for at in range(batch):
            self._lists[at] = ctypes.cast(base + step * at, ctypes.POINTER(ctypes.c_int32))
        self._batch.seq_id = ctypes.cast(self._lists, type(self._batch.seq_id))
        self._twin = sequences + 1 if owners == 2 else 0
        self._stateless = self.snapshot(self._scratch) if model.memory == "state" else None
        self._fixed, self._per_token = self._measured()

    def _measured(self) -> tuple[int, int]:
        """Bytes of a state, whatever it holds, and of each token in it: from the states of one and of two tokens."""
        sizes = []
        for position in range(2):
            self.tokens[0], self.positions[0], self.sequences[0], self.outputs[0] = 0, position, 0, 0
            if self.decode(1) != 0:
                raise StartError("llama.cpp can't compute with this model in this context.")
            whole = self._stateless is not None
            sizes.append(len(self.dump(0, position + 1) if whole else self.save(0, 0, position + 1)))
        self.keep(0, 0)
        one, two = sizes
        return 2 * one - two, two - one

    def weigh(self, tokens: int) -> int:
        """The bytes that `save` or `dump` gives of so many tokens."""
        return self._fixed + self._per_token * tokens

    @property
    def handle(self) -> Any:
        """llama.cpp's pointer."""
        return self._context

    def decode(self, count: int) -> int:
        """Compute the batch's first `count` tokens. 0: done; 1: no cells for them, nothing changed; else it failed."""
        if self._twin:
            self._owners[:count, 1] = self._owners[:count, 0] + self._twin
        self._batch.n_tokens = count
        return int(ll.llama_decode(self._context, self._batch))

    def logits(self, at: int) -> Logits:
        """The logits of the batch's token `at`, whose `outputs` flag was set; shape (vocabulary,). A view that lives
        until the next decode."""
        return np.ctypeslib.as_array(ll.llama_get_logits_ith(self._context, at), (self._vocabulary,))

    def share(self, source: int, target: int, start: int, stop: int) -> None:
        """`target` also holds the cells of `source` at positions [start, stop). Copies nothing.

        A state is shared too, the one of the end of `source`: unless that is at `stop`, `resume` must follow.
        """
        ll.llama_memory_seq_cp(self._memory, source, target, start, stop)
        if self._twin and target != self._scratch:
            ll.llama_memory_seq_cp(self._memory, source, target + self._twin, start, stop)

    def keep(self, sequence: int, length: int) -> bool:
        """Let the sequence go of its positions from `length` on; cells that no one holds are free. False, and nothing
        is changed, if it has a state that is of a later position."""
        if self._twin and sequence != self._scratch:
            ll.llama_memory_seq_rm(self._memory, sequence + self._twin, length, -1)
        return bool(ll.llama_memory_seq_rm(self._memory, sequence, length, -1))

    def snapshot(self, sequence: int) -> Bytes:
        """The sequence's state after its last token, for `resume`; the same size after any token."""
        data = np.empty(ll.llama_state_seq_get_size_ext(self._context, sequence, PARTIAL), np.uint8)
        written = ll.llama_state_seq_get_data_ext(self._context, _pointer(data), len(data), sequence, PARTIAL)
        assert written == len(data)
        return data

    def resume(self, sequence: int, snapshot: Bytes) -> bool:
        """Give the sequence this state in place of its own. It must hold the cells of all tokens before, and no others.
        False, and the sequence is empty, if it is no state of this model."""
        read = ll.llama_state_seq_set_data_ext(self._context, _pointer(snapshot), len(snapshot), sequence, PARTIAL)
        if not read or read != len(snapshot):
            self.keep(sequence, 0)
            return False
        return True

    def save(self, sequence: int, start: int, stop: int) -> Bytes:
        """The state of positions [start, stop), as bytes that `restore` understands."""
        self.share(sequence, self._scratch, start, stop)
        if self._stateless is not None:
            self.resume(self._scratch, self._stateless)
        size = self._sizes.get(stop - start) or self._state_size()
        data, written = self._state(size)
        if written != size:  # a model whose states of as many tokens differ
            data, written = self._state(self._state_size())
        self.keep(self._scratch, 0)
        assert written == len(data)
        self._sizes[stop - start] = written
        return data

    def restore(self, sequence: int, blocks: Bytes | Ordered[Bytes], start: int, stop: int) -> bool:
        """Bring saved positions [start, stop) back into the sequence: one state, or blocks in a row. False, and nothing
        is changed, if there are no cells for all of them."""
        fits = True
        for data in (blocks,) if isinstance(blocks, np.ndarray) else self._joiner.states(blocks):
            fits = ll.llama_state_seq_set_data(self._context, _pointer(data), len(data), self._scratch) == len(data)
            if not fits:
                break
            self.share(self._scratch, sequence, start, stop)
        self.keep(self._scratch, 0)  # each state took the place of the one before it
        if not fits:
            self.keep(sequence, start)
        return fits

    def dump(self, sequence: int, length: int) -> Bytes:
        """All of a sequence of `length` tokens whose state can't be cut, as bytes that `load` understands."""
        cells, state = self.save(sequence, 0, length), self.snapshot(sequence)
        return np.concatenate([np.array([len(cells)], "<u8").view(np.uint8), cells, state])

    def load(self, sequence: int, data: Bytes, length: int) -> bool:
        """Bring it back into an empty sequence; False, and that stays empty, if there are no cells for it."""
        end = 8 + int(data[:8].view("<u8")[0])
        if self.restore(sequence, data[8:end], 0, length):
            return self.resume(sequence, data[end:])
        self.keep(sequence, 0)
        return False

    def _state_size(self) -> int:
        return int(ll.llama_state_seq_get_size(self._context, self._scratch))

    def _state(self, size: int) -> tuple[Bytes, int]:
        data = np.empty(size, np.uint8)
        return data, int(ll.llama_state_seq_get_data(self._context, _pointer(data), size, self._scratch))

    @cached_property
    def _sizes(self) -> dict[int, int]:
        """Bytes of a state by its tokens: asking looks through all cells."""
        return {}

    @cached_property
    def _joiner(self) -> Joiner:
        return Joiner()

    def clear(self) -> None:
        """Every sequence lets go of everything."""
        ll.llama_memory_clear(self._memory, False)

    def close(self) -> None:
        """Free the cells. Idempotent."""
        if self._context:
            self._batch.seq_id = ctypes.cast(self._own_lists, type(self._batch.seq_id))
            ll.llama_batch_free(self._batch)
            ll.llama_free(self._context)
            self._context = None


class LlamaSampler:
    """Chooses one request's tokens: bias, then llama.cpp's samplers for penalties, temperature, nucleus and draw.

    Greedy without penalties is the largest logit, for which no list of candidates has to be built.
    A grammar is asked only whether the chosen token is allowed; if not, the choice is made again among those that are.
    Raises `InvalidRequest` for a schema that llama.cpp has no grammar for.
    """

    def __init__(self, model: LlamaModel, sampling: Sampling, max_tokens: int) -> None:
        self._size = model.vocabulary_size
        self._ids = np.arange(self._size, dtype=np.int32)
        self._chain: Any = None
        self._grammar: Any = None
        self._candidates = np.zeros(0, CANDIDATE)
        self._watch = OpenerWatch.of(sampling)
        self._piece = shown(model, model.control_token, sampling.calls).piece
        grammar = answer_grammar(sampling, json_schema_to_gbnf, JSON_GBNF)
        if grammar is not None:
            self._grammar = _grammar_sampler(model, grammar, sampling)
        self._biased = np.array([token for token, _ in sampling.logit_bias], np.int64)
        self._bias = np.array([bias for _, bias in sampling.logit_bias], np.float32)
        penalised = sampling.frequency_penalty or sampling.presence_penalty
        if sampling.temperature >= COLDEST or penalised:
            self._chain = ll.llama_sampler_chain_init(ll.llama_sampler_chain_default_params())
            if penalised:
                add = ll.llama_sampler_init_penalties
                penalties = (max_tokens, 1.0, sampling.frequency_penalty, sampling.presence_penalty)
                ll.llama_sampler_chain_add(self._chain, add(self._size, *penalties))
            self._add_draw(sampling)

    def _add_draw(self, sampling: Sampling) -> None:
        if sampling.temperature < COLDEST:
            ll.llama_sampler_chain_add(self._chain, ll.llama_sampler_init_greedy())
            return
        ll.llama_sampler_chain_add(self._chain, ll.llama_sampler_init_temp(sampling.temperature))
        if sampling.top_p < 1:
            ll.llama_sampler_chain_add(self._chain, ll.llama_sampler_init_top_p(sampling.top_p, 1))
        seed = RANDOM_SEED if sampling.seed is None else sampling.seed % RANDOM_SEED
        ll.llama_sampler_chain_add(self._chain, ll.llama_sampler_init_dist(seed))

    def choose(self, logits: Logits) -> int:
        """The next token, of logits of shape (vocabulary,); -1 if a grammar allows none."""
        if len(self._biased):
            logits = logits.copy()
            logits[self._biased] += self._bias
        token = self._pick(logits, constrained=False)
        if self._grammar is not None and not (self._watch and self._watch.passes(self._piece(token))):
            if not self._allowed(token, logits):
                token = self._pick(logits, constrained=True)
                if not self._allowed(token, logits):
                    return -1  # llama.cpp would abort the process
            ll.llama_sampler_accept(self._grammar, token)
        if self._chain is not None:
            ll.llama_sampler_accept(self._chain, token)
        return token

    def _pick(self, logits: Logits, *, constrained: bool) -> int:
        if self._chain is None and not constrained:
            return int(logits.argmax())
        if not len(self._candidates):
            self._candidates = np.zeros(self._size, CANDIDATE)
        self._candidates["id"] = self._ids
        self._candidates["logit"] = logits
        array = _candidate_array(self._candidates)
        if constrained:
            ll.llama_sampler_apply(self._grammar, ctypes.byref(array))
        if self._chain is None:
            return int(self._candidates["id"][self._candidates["logit"].argmax()])
        ll.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def _allowed(self, token: int, logits: Logits) -> bool:
        one = np.zeros(1, CANDIDATE)
        one["id"], one["logit"] = token, logits[token]
        ll.llama_sampler_apply(self._grammar, ctypes.byref(_candidate_array(one)))
        return bool(np.isfinite(one["logit"][0]))

    def close(self) -> None:
        """Free the samplers. Idempotent."""
        for sampler in (self._chain, self._grammar):
            if sampler is not None:
                ll.llama_sampler_free(sampler)
        self._chain = self._grammar = None


def _pointer(data: Bytes) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


def _candidate_array(candidates: npt.NDArray[Any]) -> Any:
    data = candidates.ctypes.data_as(ctypes.POINTER(ll.llama_token_data))
    return ll.llama_token_data_array(data, len(candidates), -1, False)


def _grammar_sampler(model: LlamaModel, grammar: str, sampling: Sampling) -> Any:
    with _quiet():
        sampler = ll.llama_sampler_init_grammar(model.vocab, grammar.encode(), b"root")
    if not sampler:
        raise InvalidRequest(
            "This JSON schema gives a grammar that llama.cpp can't read.",
            param=f"{sampling.format.path}.schema" if sampling.calls is None else "tools",
            code="invalid_json_schema",
        )
    return sampler


@contextmanager
def _quiet() -> Iterator[None]:
    """llama.cpp's grammar parser prints what it can't read, past its own log: that is a client's text."""
    try:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # no standard error to keep quiet
        yield
        return
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
