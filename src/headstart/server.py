"""Composes the parts: configuration -> engines -> pipeline -> application, and runs it."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import uvicorn
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from starlette.applications import Starlette

from headstart import __version__
from headstart.accounts import Accounts
from headstart.api.app import create_app
from headstart.api.auth import KeyRing, PrivateOrganisations
from headstart.api.capture import Capture
from headstart.cache.index import PrefixIndex
from headstart.cache.policy import Terms, rules_for
from headstart.cache.promises import PromiseBudget
from headstart.cache.tree import PROMISED_RAM
from headstart.config import Config, ModelConfig, bytes_of, make_data_dir, own_secret
from headstart.engine.blocks.catalogue import Selection
from headstart.engine.blocks.directory import CacheDirectory
from headstart.engine.blocks.listing import CATALOGUE, InUse, clear
from headstart.engine.clock import SteadyClock
from headstart.engine.embedded import EmbeddedEngine
from headstart.engine.llama import LlamaModel
from headstart.errors import StartError, StoreFailed
from headstart.machine import default_disk, default_ram
from headstart.models import fingerprint, model_file, prompt_builder
from headstart.pipeline import Pipeline, ServedModel
from headstart.prompt.builder import PromptBuilder
from headstart.store.database import Database
from headstart.store.responses import ResponseStore
from headstart.types import Lifetime

KEYS_FILE = "keys.json"
SECRET_FILE = "secret"  # noqa: S105 - a file's name
DATABASE_FILE = "headstart.db"
CACHE_DIRECTORY = "cache"
HASHES_FILE = "hashes.json"
SWEEP_SECONDS = 3600.0
"""How often expired responses are removed; clients don't find them in between."""

log = logging.getLogger("headstart.server")


def serve(config: Config) -> None:
    """Serve until interrupted. Raises `StartError` for anything that can't be started."""
    level = os.environ.get("HEADSTART_LOG", "warning").upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise StartError(f"HEADSTART_LOG is '{level.lower()}'; use debug, info, warning or error.")
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    console = Console(stderr=True)
    keys = prepare(config)
    store, accounts = open_store(config, keys), Accounts(config, load_secret(config.data_path / SECRET_FILE))
    capture = open_capture(config)
    with listen(config) as listening:
        with console.status("Starting …") as status:
            pipeline = build_pipeline(config, keys, status)
        app = build_app(config, pipeline, keys, store, accounts, capture)
        _greet(console, config, pipeline, keys)
        settings = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5)
        Server(settings, pipeline).run(sockets=[listening])


def listen(config: Config) -> socket.socket:
    """The port, taken before minutes are spent on loading a model. Raises `StartError`."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host.strip("[]"), config.port), family=family, backlog=2048)
    except OSError as error:
        raise StartError(
            f"{config.host} port {config.port} can't be listened on: {error.strerror or error}. Choose another --port."
        ) from error


class Server(uvicorn.Server):
    """Ends open streams with an error before it waits for their clients."""

    def __init__(self, config: uvicorn.Config, pipeline: Pipeline) -> None:
        super().__init__(config)
        self._pipeline = pipeline

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, once the engines have stopped."""
        await close_engines(self._pipeline)
        await super().shutdown(sockets)


async def close_engines(pipeline: Pipeline) -> None:
    """Close every engine once."""
    for engine in {id(model.engine): model.engine for model in pipeline.models.values()}.values():
        await engine.close()


def prepare(config: Config) -> KeyRing:
    """The data directory and its keys. Raises `StartError` if other machines could reach a server without keys."""
    data = config.data_path
    make_data_dir(data)
    keys = KeyRing(data / KEYS_FILE)
    if not keys.required and not is_loopback(config.host):
        raise StartError(
            f"Without keys only this machine is served, and {config.host} is reachable from others. "
            "Make a key with 'headstart keys create NAME', or leave --host at 127.0.0.1."
        )
    return keys


def open_store(config: Config, keys: KeyRing) -> ResponseStore:
    """The store of responses, in the data directory. Raises `StartError`."""
    options = config.store
    return ResponseStore(
        Database(config.data_path / DATABASE_FILE, patience=options.busy_timeout),
        days=options.days,
        max_bytes=bytes_of(options.max_bytes),
        clock=time.time,
        private=private_organisations(config, keys),
    )


def open_capture(config: Config) -> Capture | None:
    """Where answered requests are appended, if anywhere. Raises `StartError`."""
    if not config.capture:
        return None
    return Capture(Path(config.capture).expanduser(), bytes_of(config.capture_max))


async def sweep(store: ResponseStore, every: float = SWEEP_SECONDS) -> None:
    """Remove expired responses, now and `every` so many seconds, for ever."""
    while True:
        try:
            await store.sweep()
        except StoreFailed as error:
            log.warning("Expired responses will be removed later. %s", error.message)
        await asyncio.sleep(every)


def private_organisations(config: Config, keys: KeyRing) -> PrivateOrganisations:
    """The organisations under zero data retention, by the configuration or by one of their keys."""
    configured = frozenset(each.name for each in config.organisations if each.zero_data_retention)
    return PrivateOrganisations(keys, configured)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def build_pipeline(config: Config, keys: KeyRing, status: Status | None = None) -> Pipeline:
    """Load every model file once and serve it under its names."""

    def tell(what: str) -> None:
        if status is not None:
            status.update(what)

    secret = load_secret(config.data_path / SECRET_FILE)
    in_memory = Lifetime(config.retention.in_memory_idle, config.retention.in_memory_total)
    private = private_organisations(config, keys)
    terms = Terms(secret, in_memory, config.retention.default, private)
    rules = {model.generation: rules_for(model.generation, terms) for model in config.models}
    engines: dict[str | None, tuple[EmbeddedEngine, PromptBuilder]] = {}
    indexes: list[PrefixIndex] = []
    clock = SteadyClock()
    served = []
    with ExitStack() as undo:
        disk = open_disk(config, private, clock)
        if disk is not None:
            undo.callback(disk.close)
        budget = promise_budget(config, keys, disk)
        for model in config.models:
            if model.file not in engines:
                index = PrefixIndex(ram_budget(config), budget)
                engines[model.file] = load_engine(model, config, index, disk, clock, tell)
                indexes.append(index)
            engine, prompts = engines[model.file]
            created = int(time.time())
            served.append(ServedModel(model.name, model.generation, engine, prompts, rules[model.generation], created))
        if disk is not None and budget.disk:  # what is left there is of other models, and goes when its time is up
            for index in indexes:
                index.promises.budget = budget._replace(disk=max(budget.disk - disk.size // len(indexes), 1))
        undo.pop_all()  # the engines close it
    return Pipeline(
        served,
        secret,
        remembered=config.diagnostics.tokens,
        keep_text=config.diagnostics.text,
        zero_data_retention=private,
    )


def load_engine(
    model: ModelConfig,
    config: Config,
    index: PrefixIndex,
    disk: CacheDirectory | None,
    clock: Callable[[], float],
    tell: Callable[[str], None],
) -> tuple[EmbeddedEngine, PromptBuilder]:
    """A model file's engine, with what its disk tier has from before, and what makes its prompts."""
    path = model_file(model.file, config.data_path, tell)
    tell(f"Loading {path.name} …")
    loaded = LlamaModel(path, gpu_layers=config.engine.gpu_layers)
    prompts, tier = prompt_builder(loaded), None
    if disk is not None:
        tell(f"Looking at {path.name} …")
        place = fingerprint(path, prompts, config.engine.kv_type, disk.path / HASHES_FILE)
        tier = disk.tier(place, description=loaded.description)
    return EmbeddedEngine(loaded, config.engine, index, disk=tier, clock=clock), prompts


def open_disk(config: Config, private: Iterable[str], clock: Callable[[], float]) -> CacheDirectory | None:
    """The disk tier's directory, without what is there of organisations under zero data retention; None if there is to
    be none. Raises `StartError`, as where another process has it."""
    if config.engine.disk_cache != "auto" and not bytes_of(config.engine.disk_cache):
        return None
    path = config.data_path / CACHE_DIRECTORY
    for organisation in private if (path / CATALOGUE).exists() else ():
        with suppress(InUse):  # which the next line says
            clear(path, Selection(organisation=organisation), clock())
    return CacheDirectory(path, clock=clock)


def ram_budget(config: Config) -> int:
    """Bytes of RAM for the blocks of one engine: as configured, or its part of the machine's."""
    asked = config.engine.ram_cache
    return default_ram() // _engines(config) if asked == "auto" else bytes_of(asked)


def promise_budget(config: Config, keys: KeyRing, disk: CacheDirectory | None) -> PromiseBudget:
    """What one engine can promise. Where there are no keys there is one organisation, and it can have all."""
    on_disk = 0
    if disk is not None:
        asked = config.engine.disk_cache
        on_disk = default_disk(disk.path, disk.size) // _engines(config) if asked == "auto" else bytes_of(asked)
    if on_disk and not ram_budget(config):
        log.warning("With --ram-cache 0 nothing can be promised: what goes to disk goes through memory.")
    share = config.retention.organisation_share if keys.required else 1.0
    return PromiseBudget(on_disk, int(ram_budget(config) * PROMISED_RAM), share)


def _engines(config: Config) -> int:
    return len({model.file for model in config.models})


def load_secret(path: Path) -> bytes:
    """The deployment's secret, which keys every digest; made on first use, readable by its owner alone."""
    return own_secret(path, "secret")


def build_app(
    config: Config,
    pipeline: Pipeline,
    keys: KeyRing,
    store: ResponseStore,
    accounts: Accounts,
    capture: Capture | None = None,
) -> Starlette:
    """The application, whose end closes the engines, the store, the ledger and the capture."""
    app = create_app(
        pipeline,
        keys,
        max_body=bytes_of(config.max_body),
        store=store,
        store_default=config.store.default,
        zero_data_retention=private_organisations(config, keys),
        meter=accounts.meter,
        capture=capture,
        more=accounts.routes,
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(sweep(store))
        yield
        sweeping.cancel()
        await close_engines(pipeline)
        await store.close()
        await accounts.close()
        if capture is not None:
            await asyncio.to_thread(capture.close)

    app.router.lifespan_context = lifespan
    return app


def _greet(console: Console, config: Config, pipeline: Pipeline, keys: KeyRing) -> None:
    host = f"[{config.host}]" if ":" in config.host else config.host
    console.print(f"[bold]Headstart {__version__}[/bold] on [link]http://{host}:{config.port}/v1[/link]")
    for model in pipeline.models.values():
        info = model.engine.info
        console.print(
            f"  {model.name}: {info.description}; {model.generation} cache rules; context {info.context_length:,}"
        )
    engine = config.engine
    console.print(f"  {engine.max_sequences} requests at once, {engine.max_waiting} may wait")
    stats = {id(model.engine): model.engine.stats() for model in pipeline.models.values()}
    for each in stats.values():
        kept = f"{each.disk_blocks:,} blocks there from before" if each.disk_blocks else "empty"
        disk = (
            f"on disk {_gib(each.disk_budget)}, {kept}" if each.disk_budget else "nothing on disk: a restart loses it"
        )
        console.print(f"  prefix cache: RAM {_gib(each.ram_budget)}; {disk}")
    admin = "; it asks for a key of 'headstart keys create NAME --admin'" if keys.required else ""
    console.print(
        f"  {'API keys required' if keys.required else 'no API keys: this machine only'}; data in {config.data_path}"
    )
    console.print(f"  dashboard: [link]http://{host}:{config.port}/dashboard[/link]{admin}")
    if config.capture:
        console.print(f"  answered requests, prompts and all, are captured in {escape(config.capture)}")
    if config.store.default:
        console.print(f"  responses are stored for {config.store.days:g} days, unless a request says 'store': false")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
