"""What this machine has, for defaults."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

SHARE = 4
"""Of memory, and of what is free on a disk, one part in so many is used unless told otherwise."""
MOST_RAM, MOST_DISK = 16 * 2**30, 32 * 2**30
LEAST_DISK = 2**30
"""Under this a disk is left alone."""
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory() -> int:
    """Bytes of main memory that this process may use: the machine's, or the container's if that is less."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in CGROUP_LIMITS:
        with suppress(OSError, ValueError):
            sizes.append(int(limit.read_text()))
    return min(sizes)


def default_ram() -> int:
    """Bytes of RAM for a cache."""
    return min(memory() // SHARE, MOST_RAM)


def default_disk(path: Path, there: int) -> int:
    """Bytes for a cache on the disk of a directory, where it has so many already; 0 if there is hardly room."""
    free = shutil.disk_usage(path).free + there
    return min(free // SHARE, MOST_DISK) if free >= SHARE * LEAST_DISK else 0
