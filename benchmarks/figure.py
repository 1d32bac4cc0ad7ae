"""A measured figure: a ratio, the goal it has to meet, and what it was made of."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """`value` meets its goal if it is at most (or, with `at_least`, at least) `goal`."""

    name: str
    value: float
    goal: float
    at_least: bool = False
    unit: str = "×"
    parts: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def line(self) -> str:
        """For a terminal."""
        parts = ", ".join(f"{name} {part}" for name, part in self.parts.items())
        sign = "≥" if self.at_least else "≤"
        verdict = "met " if self.met else "MISS"
        return f"{verdict} {self.name}: {self.value:.3g} {self.unit} ({sign} {self.goal:g}); {parts}"


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}


def run(description: str | None, measure: Callable[[argparse.Namespace], list[Figure]], **options: Any) -> None:
    """The command line of one script: `options` are argparse arguments by name; `--json FILE` is there always."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, settings in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    figures = measure(arguments)
    for figure in figures:
        print(figure.line())
    if arguments.json:
        written = {"machine": machine(), "figures": [asdict(figure) | {"met": figure.met} for figure in figures]}
        arguments.json.write_text(json.dumps(written, indent=1) + "\n")
