"""What an operator can set: the defaults, `headstart.toml` and the command line, in that order."""

from __future__ import annotations

import os
import re
import secrets
import stat
import tempfile
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from headstart.errors import StartError
from headstart.types import Generation, Retention

SECRET_BYTES = 32
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
MOST_DOLLARS = 1_000_000
Positive = Annotated[int, msgspec.Meta(ge=1)]


def bytes_of(size: int | str) -> int:
    """`"2GiB"`, `"512M"`, `1000` -> bytes. Raises `StartError`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", str(size).upper())
    if match is None:
        raise StartError(f"'{size}' is not a size in bytes; write it like 2GiB, 512M or 0.")
    return int(float(match[1]) * UNITS[match[2]])


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/headstart`, or `~/.local/share/headstart`."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "headstart"


def make_data_dir(path: Path) -> None:
    """Make the data directory, for its owner alone, if it isn't there. Raises `StartError`."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StartError(
            f"The data directory {path} can't be made: {error.strerror or error}. Name another with --data-dir."
        ) from error


def own_secret(path: Path, what: str) -> bytes:
    """A file's 32 secret bytes, made on first use, readable by its owner alone. `what` it is called in the `StartError`
    if it can't be used."""
    try:
        if not path.exists():
            with tempfile.NamedTemporaryFile(dir=path.parent) as made:  # 0600; linked whole, so that no one sees half
                made.write(secrets.token_bytes(SECRET_BYTES))
                made.flush()
                with suppress(FileExistsError):  # another process was as fast
                    os.link(made.name, path)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise StartError(f"{path} can be read by others; run: chmod 600 {path}")
        secret = path.read_bytes()
    except OSError as error:
        raise StartError(f"The {what} {path} can't be read or made: {error.strerror or error}.") from error
    if len(secret) != SECRET_BYTES:
        raise StartError(f"The {what} {path} is damaged: it has {len(secret)} bytes, not {SECRET_BYTES}. Delete it.")
    return secret


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of one embedded engine. Every model file that is served has an engine of its own."""

    context_cells: Annotated[int, msgspec.Meta(ge=256, le=2**24)] = 32_768
    """Tokens that fit in llama.cpp's context, of all running requests and hot prefixes together. It is also the most
    that one request may have, where the model was trained for as many."""
    max_sequences: Annotated[int, msgspec.Meta(ge=1, le=128)] = 8
    """Requests computed at once."""
    max_waiting: Annotated[int, msgspec.Meta(ge=0)] = 128
    """Requests that may wait; one more gets 429 with Retry-After."""
    hot_prefixes: Annotated[int, msgspec.Meta(ge=0, le=120)] = 8
    """Idle prefixes that stay in the context."""
    hot_cells: Annotated[int, msgspec.Meta(ge=0)] = 8_192
    """Tokens that idle prefixes may hold there: idle cells slow down every other request's attention."""
    prefill_tokens: Annotated[int, msgspec.Meta(ge=16, le=8192)] = 512
    """Prompt tokens computed per step when nothing else runs."""
    prefill_tokens_while_decoding: Annotated[int, msgspec.Meta(ge=16, le=8192)] = 128
    """The same while other requests wait for their next token: what a long prompt may delay them by."""
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    """CPU threads; 0: one per core this process may use."""
    gpu_layers: int = -1
    """Layers offloaded, where llama.cpp was built with a GPU backend; -1: all."""
    kv_type: Literal["f16", "f32"] = "f16"
    """Type of the cached keys and values: f16, or f32 for exact comparisons."""
    ram_cache: int | str = "auto"
    """Bytes of main memory for blocks of idle prefixes; auto: a quarter of what this process may use, 16GiB at most."""
    disk_cache: int | str = "auto"
    """Bytes on disk, in the data directory, for what is promised beyond this process's life; auto: a quarter of what is
    free there, 32GiB at most."""
    max_output_tokens: Positive = 2_048
    """Output tokens of a request that doesn't say `max_output_tokens`."""


class PriceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model costs: `input` and `output`, in dollars for a million tokens; or `gpu_hour`, in dollars for an hour
    of computing; or as much as a model that OpenAI publishes a price of, `like` that."""

    input: Decimal | None = None
    cached: Decimal | None = None
    """As much as `input` if it is left out, and `written` too."""
    written: Decimal | None = None
    written_12h: Decimal | None = None
    """As much as `written` if it is left out."""
    output: Decimal | None = None
    gpu_hour: Decimal | None = None
    like: str | None = None

    def __post_init__(self) -> None:
        tokens = (self.input, self.cached, self.written, self.written_12h, self.output)
        by_tokens = tokens != (None,) * len(tokens)
        if by_tokens + (self.gpu_hour is not None) + (self.like is not None) != 1:
            raise ValueError("A price has input and output, or gpu_hour, or like: one of the three")
        if by_tokens and (self.input is None or self.output is None):
            raise ValueError("A price by the token has both input and output")
        for dollars in (*tokens, self.gpu_hour):
            if dollars is not None and not (dollars.is_finite() and 0 <= dollars <= MOST_DOLLARS):
                raise ValueError(f"A price is from 0 to {MOST_DOLLARS:,} dollars, not {dollars}")


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A served name. Names with the same `file` share one engine; no file: the demo model."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    file: str | None = None
    generation: Generation = "interval"
    price: PriceConfig | None = None
    """None: what OpenAI publishes for its name, if that is one of OpenAI's."""


class RetentionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is promised, and the lives of `in_memory` entries, in seconds (docs/contract.md: 5 to 10 minutes idle, never
    longer than an hour)."""

    default: Retention = "24h"
    """What a request to an interval model gets that names no `prompt_cache_retention`."""
    organisation_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """Of the bytes that can be promised (`30m`, `12h`, `24h`), what one organisation can have."""
    in_memory_idle: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 600.0
    in_memory_total: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 3600.0


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stored responses: what `previous_response_id` and `GET /v1/responses/{id}` find."""

    default: bool = False
    """Whether a response is stored whose request doesn't say `store`. OpenAI's default is true."""
    days: Annotated[float, msgspec.Meta(gt=0, le=3650)] = 30.0
    max_bytes: int | str = "4GiB"
    """Bytes of the database; the oldest responses make room."""
    busy_timeout: Annotated[float, msgspec.Meta(gt=0, le=60)] = 5.0
    """Seconds that a write waits while another process writes; then the answer is given and not stored."""


class LedgerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The usage ledger: a row per request, of counts, times and costs; no prompt's text."""

    enabled: bool = True
    url: str = ""
    """A database that servers share, as postgresql://USER:PASSWORD@HOST/DATABASE; the environment's
    HEADSTART_LEDGER_URL goes first. Empty: a file in the data directory."""
    days: Annotated[float, msgspec.Meta(gt=0, le=3650)] = 30.0
    """How long rows are kept. Sums of them by minute are kept for 2 days, by hour for 400, by day for good."""
    cache_keys: Literal["hashed", "plain"] = "hashed"
    """How a client's prompt_cache_key stands in a row."""


class OrganisationConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is special about an organisation. Zero data retention: no response of its is ever stored, and nothing of its
    prompts is written to disk."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    zero_data_retention: bool = False


class DiagnosticsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is remembered of recent requests, to explain later ones: by default hashes, counts, JSON paths and kinds."""

    tokens: Annotated[int, msgspec.Meta(ge=0)] = 4_000_000
    """Prompt tokens of all that is remembered, for a day at most; a token takes some 8 bytes of memory."""
    text: bool = False
    """Whether `GET /v1/responses/{id}/cache` may quote the prompt where it parts from an earlier one."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything. `headstart serve --config FILE` reads it from TOML of the same names."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8000
    data_dir: str = ""
    max_body: int | str = "32MiB"
    """Bytes of one request's body; more is refused unread with 413."""
    capture: str = ""
    """A file to which answered requests are appended, prompts and all, for `headstart audit`; empty: none."""
    capture_max: int | str = "1GiB"
    """Bytes that it may have; then no more is captured."""
    models: tuple[ModelConfig, ...] = (
        ModelConfig(name="gpt-4.1-mini"),
        ModelConfig(name="gpt-5.6", generation="breakpoint"),
    )
    engine: EngineConfig = EngineConfig()
    retention: RetentionConfig = RetentionConfig()
    diagnostics: DiagnosticsConfig = DiagnosticsConfig()
    store: StoreConfig = StoreConfig()
    ledger: LedgerConfig = LedgerConfig()
    organisations: tuple[OrganisationConfig, ...] = ()

    @property
    def ledger_place(self) -> Path | str:
        """The ledger's file, or its URL."""
        return os.environ.get("HEADSTART_LEDGER_URL") or self.ledger.url or self.data_path / "usage.db"

    @property
    def data_path(self) -> Path:
        """Where the demo model, the keys and the secret are."""
        return Path(self.data_dir).expanduser() if self.data_dir else default_data_dir()


def load(path: Path | None, overrides: dict[str, Any]) -> Config:
    """Read the file, if any, and lay `overrides` (the command line's, by field name) over it. Raises `StartError`."""
    settings: dict[str, Any] = {}
    if path is not None:
        try:
            settings = msgspec.toml.decode(path.read_bytes())
        except OSError as error:
            raise StartError(f"The configuration {path} can't be read: {error.strerror}.") from error
        except msgspec.DecodeError as error:
            raise StartError(f"The configuration {path} is not valid TOML: {error}.") from error
    merged = settings | overrides
    for section in ("engine", "retention", "diagnostics", "store", "ledger"):
        if section in settings and section in overrides:
            merged[section] = {**settings[section], **overrides[section]}
    try:
        config = msgspec.convert(merged, Config)
    except msgspec.ValidationError as error:
        where = path or "the command line"
        raise StartError(f"{where}: {str(error).replace('$.', '').replace('`', chr(39))}.") from error
    for cache in (config.engine.ram_cache, config.engine.disk_cache):
        if cache != "auto":
            bytes_of(cache)
    if bytes_of(config.store.max_bytes) < 2**20:
        raise StartError("store.max_bytes: at least 1MiB, or no response fits.")
    bytes_of(config.capture_max)
    if bytes_of(config.max_body) < 1024:
        raise StartError("max_body: at least 1 KiB, or no request fits.")
    names = [model.name for model in config.models]
    if not names or len(set(names)) != len(names):
        raise StartError("models: at least one name, and each name once.")
    organisations = [organisation.name for organisation in config.organisations]
    if len(set(organisations)) != len(organisations):
        raise StartError("organisations: each name once.")
    return config
