"""From a configured model to its file, its prompts and its fingerprint."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from hashlib import blake2b, file_digest
from importlib.metadata import version
from pathlib import Path

from headstart.engine.demo_model import demo_model_path, write_demo_model
from headstart.engine.llama import LlamaModel
from headstart.errors import StartError
from headstart.prompt.builder import PromptBuilder
from headstart.prompt.template import DEFAULT_TEMPLATE, DEMO_TEMPLATE, ChatTemplate
from headstart.prompt.tokenizer import OpenAITokenizer, Tokenizer

STATE_FORMAT = 1
"""Counts what changes the bytes of a saved state beside llama.cpp's version."""


def prompt_builder(model: LlamaModel) -> PromptBuilder:
    """The model's own template and tokenizer; OpenAI's exact tokenizer where the file says that its vocabulary is."""
    template = ChatTemplate(
        model.chat_template or DEFAULT_TEMPLATE, bos_token=model.text(model.bos), eos_token=model.text(model.eos)
    )
    tokenizer: Tokenizer = model.tokenizer
    if model.metadata("headstart.tokenizer") == "o200k_base":
        tokenizer = OpenAITokenizer(tokenizer.control)
    return PromptBuilder(template, tokenizer)


def model_file(name: str | None, data: Path, tell: Callable[[str], None]) -> Path:
    """The file of a configured model: a path, one to download (`hf:OWNER/REPO/FILE`), or the demo model, made once."""
    if name is None:
        path = demo_model_path(data)
        if not path.exists():
            tell("Writing the demo model, once …")
            try:
                write_demo_model(path, chat_template=DEMO_TEMPLATE)
            except OSError as error:
                raise StartError(f"The demo model can't be written to {path}: {error.strerror or error}.") from error
        return path
    if name.startswith("hf:"):
        tell(f"Downloading {name.removeprefix('hf:')} …")
        return download(name.removeprefix("hf:"))
    return Path(name).expanduser()


def download(name: str) -> Path:
    """A file of a repository on Hugging Face's hub, `OWNER/REPO/FILE`, through its own cache. Raises `StartError`."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    parts = name.split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise StartError(f"'hf:{name}' doesn't name a file: write hf:OWNER/REPO/FILE.gguf.")
    try:
        return Path(hf_hub_download(f"{parts[0]}/{parts[1]}", parts[2]))
    except LocalEntryNotFoundError as error:
        raise StartError(
            f"hf:{name} can't be downloaded: the hub is out of reach from here. "
            "Bring the file by other means and name it with --model FILE."
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise StartError(
            f"hf:{name} can't be downloaded: {first_line} Or name a local file with --model FILE."
        ) from error


def fingerprint(path: Path, prompts: PromptBuilder, kv_type: str, known: Path) -> bytes:
    """What state on disk belongs to: the weights, with the vocabulary and all else in the file; the template and the
    tokenizer in use; how keys and values are kept; llama.cpp. `known`: a file that remembers the hashes of files, which
    for large ones take a while. Raises `StartError`."""
    llama = version("llama-cpp-python")
    parts = (file_hash(path, known), *prompts.identity, kv_type, llama, STATE_FORMAT)
    return blake2b(json.dumps(parts).encode(), digest_size=16, person=b"headstart model").digest()


def file_hash(path: Path, known: Path) -> str:
    """Of a file's bytes, in hex; looked up while size and time of change are the same. Raises `StartError`."""
    try:
        stat = path.stat()
        name, seen = str(path.resolve()), [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        try:
            hashes = json.loads(known.read_text())
            if hashes[name][0] == seen:
                return str(hashes[name][1])
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            hashes = {}
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StartError(f"The model file {path} can't be read: {error.strerror or error}.") from error
    hashes = {**hashes, name: [seen, digest]} if isinstance(hashes, dict) else {name: [seen, digest]}
    made = known.with_name(f"{known.name}.{os.getpid()}")
    try:
        made.write_text(json.dumps(hashes))
        made.replace(known)
    except OSError:
        made.unlink(missing_ok=True)
    return digest
