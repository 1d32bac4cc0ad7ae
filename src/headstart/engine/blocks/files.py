"""Blocks of state as files: encrypted, named by keyed hashes, and either whole or not there.

    header   magic, format, nonce, size of the state
    body     the state under AES-256-GCM
    tag      16 bytes, which the header, the block's address and every byte of the body agree with

A file is written under another name and renamed, so a killed process leaves no half block under a block's name. Nothing
waits for the disk: what a power cut tore has a wrong tag.
"""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM

FORMAT = 1
HEADER = struct.Struct("<6sH12s4xQ")
MAGIC = b"HSKVB\0"
TAG = 16
OVERHEAD = HEADER.size + TAG
NAME_BYTES = 16
CHUNK = 1 << 20
"""Bytes that are encrypted and written at once."""
PART = ".part"


class Damaged(Exception):
    """A file that isn't the block it is named after, or not all of it."""


class Keys(NamedTuple):
    """What is derived from the cache's key, each for one use. `identity` tells caches' keys apart and says nothing of
    them."""

    files: bytes
    names: bytes
    seals: bytes
    identity: bytes

    @classmethod
    def derive(cls, key: bytes) -> Keys:
        """From 32 random bytes."""
        files, names, seals, identity = (
            blake2b(key=key, digest_size=32, person=b"headstart " + use).digest()
            for use in (b"files", b"names", b"seals", b"key")
        )
        return cls(files, names, seals, identity[:8])


def address(fingerprint: bytes, digest: bytes, stop: int) -> bytes:
    """What a block's file is bound to: the model, the block's name, and the tokens of the prefix that it ends."""
    return struct.pack("<IIq", len(fingerprint), len(digest), stop) + fingerprint + digest


class BlockFiles:
    """The files below `<cache>/blocks`, in 256 folders. Blocking; any thread. Its methods raise OSError."""

    def __init__(self, path: Path, keys: Keys) -> None:
        self.path = path
        self._key = AES256(keys.files)
        self._names = blake2b(key=keys.names, digest_size=NAME_BYTES)

    def name(self, fingerprint: bytes, digest: bytes) -> bytes:
        """The name of a block's file, which tells nobody without the key what it holds."""
        named = self._names.copy()
        named.update(address(fingerprint, digest, 0))
        return named.digest()

    def write(self, name: bytes, where: bytes, data: npt.NDArray[np.uint8]) -> None:
        """Put a block's state there, in place of what was there. `where` is its `address`."""
        path = path_of(self.path, name)
        part = path.with_name(path.name + PART)
        try:
            descriptor = _create(part)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = _create(part)
        try:
            try:
                self._encrypt(descriptor, where, np.ascontiguousarray(data).data)
            finally:
                os.close(descriptor)
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise

    def read(self, name: bytes, where: bytes, size: int) -> npt.NDArray[np.uint8]:
        """A block's state. Raises `Damaged` unless every byte is what was written for this address."""
        data = np.empty(size + TAG, np.uint8)
        view = data.data
        header = _read_whole(path_of(self.path, name), view)
        magic, version, nonce, length = HEADER.unpack(header)
        if (magic, version, length) != (MAGIC, FORMAT, size):
            raise Damaged("its beginning is not the block's")
        decryptor = Cipher(self._key, GCM(nonce)).decryptor()
        decryptor.authenticate_additional_data(header + where)
        decryptor.update_into(view[:size], view)
        try:
            decryptor.finalize_with_tag(bytes(view[size:]))
        except InvalidTag:
            raise Damaged("its checksum is wrong") from None
        return data[:size]

    def _encrypt(self, descriptor: int, where: bytes, data: memoryview) -> None:
        nonce = secrets.token_bytes(12)
        header = HEADER.pack(MAGIC, FORMAT, nonce, len(data))
        encryptor = Cipher(self._key, GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(header + where)
        _put(descriptor, memoryview(header))
        scratch = np.empty(min(CHUNK, len(data)) + TAG, np.uint8).data
        for start in range(0, len(data), CHUNK):
            count = encryptor.update_into(data[start : start + CHUNK], scratch)
            _put(descriptor, scratch[:count])
        encryptor.finalize()
        _put(descriptor, memoryview(encryptor.tag))


def path_of(folder: Path, name: bytes) -> Path:
    """Where a block's file is."""
    text = name.hex()
    return folder / text[:2] / text


def remove_files(folder: Path, names: Iterable[bytes]) -> None:
    """Remove blocks' files; what isn't there is no error, and what can't be removed is an orphan of the next start."""
    for name in names:
        with suppress(OSError):
            path_of(folder, name).unlink()


def survey(folder: Path) -> tuple[dict[bytes, int], list[Path]]:
    """Sizes in bytes of all blocks' files by name, and what else lies between them, as half-written ones."""
    sizes, strays = {}, []
    with suppress(FileNotFoundError), os.scandir(folder) as subfolders:
        for subfolder in subfolders:
            if not subfolder.is_dir(follow_symlinks=False):
                strays.append(Path(subfolder.path))
                continue
            with os.scandir(subfolder.path) as entries:
                for entry in entries:
                    name = _name_of(subfolder.name, entry)
                    if name is None:
                        strays.append(Path(entry.path))
                    else:
                        sizes[name] = entry.stat(follow_symlinks=False).st_size
    return sizes, strays


def _name_of(subfolder: str, entry: os.DirEntry[str]) -> bytes | None:
    try:
        name = bytes.fromhex(entry.name)
    except ValueError:
        return None
    whole = len(name) == NAME_BYTES and name.hex() == entry.name and entry.name[:2] == subfolder
    return name if whole and entry.is_file(follow_symlinks=False) else None


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)


def _put(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _read_whole(path: Path, body: memoryview) -> bytes:
    """A file's header, and what is behind it into `body`, which it has to fill. In one call where the system can: each
    lets other threads have the interpreter."""
    header, excess = bytearray(HEADER.size), bytearray(1)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        count = os.preadv(descriptor, [header, body, excess], 0)
        while HEADER.size <= count < HEADER.size + len(body):
            more = os.preadv(descriptor, [body[count - HEADER.size :], excess], count)
            if not more:
                break
            count += more
    finally:
        os.close(descriptor)
    if count != HEADER.size + len(body):
        raise Damaged("its length is wrong")
    return bytes(header)
