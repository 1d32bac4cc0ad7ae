"""The Jinja environment of chat templates: Hugging Face's dialect, sandboxed, bounded, keeping provenance.

A template comes with the model's file, so it is trusted to lay out a prompt and with nothing else:

| bounded | by |
| --- | --- |
| reach | `ImmutableSandboxedEnvironment`: no private attributes, no mutation; no loader, so no includes or imports |
| `range` | the sandbox's `MAX_RANGE` |
| a text made by `+`, `~`, `*`, `join`, a call, a macro or a `set` block; the output | `MAX_CHARACTERS` |
| `**` | exponents up to 1,024 of numbers up to 2**64 |

Not bounded: time (loops nested over `range` may run for hours), and one huge step, such as the width of a
format (`"%999999999d"`), which is seen only when it is done.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame, optimizeconst
from jinja2.environment import Environment
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_environment

from headstart.prompt.tojson import tojson
from headstart.prompt.tracing import Traced, derived, joined

MAX_CHARACTERS = 64 * 1024 * 1024
"""Characters of one prompt, and of any text that a template makes on the way."""


class TooLong(TemplateError):
    """A text beyond `MAX_CHARACTERS`."""

    def __init__(self) -> None:
        super().__init__(f"it made a text of more than {MAX_CHARACTERS:,} characters")


class _TracingCodeGenerator(CodeGenerator):
    """Generates `a ~ b` as a call of the environment's `concat`; Jinja's own would lose provenance."""

    @optimizeconst
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        """Write the code of a `~` expression."""
        self.write("environment.concat(map(str, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write(")))")


class _GenerationBlock(Extension):
    """`{% generation %}...{% endgeneration %}` marks what training learns from; here it is only its body."""

    tags = {"generation"}  # noqa: RUF012  Jinja declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body, as if the marks were not there."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatSandbox(ImmutableSandboxedEnvironment):
    """Renders what plain Jinja renders, and gives `Traced` text wherever a client's text went into it."""

    code_generator_class = _TracingCodeGenerator
    intercepted_binops = frozenset({"+", "*", "%", "**"})

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationBlock])
        self.binop_table |= {"+": _add, "*": _multiply, "%": _remainder, "**": _power}
        self.filters |= {"tojson": tojson, "join": _join, "replace": _replace, "indent": _indent}
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": lambda style: clock().strftime(style)}

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        """What macros, blocks and `~` join their output with."""
        return bounded(joined(parts))

    def call(self, context: Context, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call from a template. `", ".join(parts)`, of a plain string, would lose the provenance of the parts."""
        owner = getattr(function, "__self__", None)
        if type(owner) is str and function.__name__ in ("join", "replace"):
            function = getattr(Traced(owner), function.__name__)
        result = super().call(context, function, *args, **kwargs)
        return bounded(result) if isinstance(result, str) else result


def bounded_length(length: int) -> int:
    """The length, if it is allowed; raises `TooLong`."""
    if length > MAX_CHARACTERS:
        raise TooLong
    return length


def bounded(text: str) -> str:
    """The text, if its length is allowed; raises `TooLong`."""
    bounded_length(len(text))
    return text


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _add(left: Any, right: Any) -> Any:
    result = left + right
    return bounded(result) if isinstance(result, str) else result


def _multiply(left: Any, right: Any) -> Any:
    for sequence, times in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple) and isinstance(times, int):
            bounded_length(len(sequence) * times)
    return left * right


def _remainder(left: Any, right: Any) -> Any:
    if not isinstance(left, str):
        return left % right
    return _formatted(str.__mod__(left, right), left, right)


def _formatted(text: str, template: str, values: Any) -> str:
    if isinstance(values, Mapping):
        values = tuple(values.values())
    sources = (template, *(values if isinstance(values, tuple) else (values,)))
    traced = [source for source in sources if isinstance(source, Traced)]
    return derived(text, *traced) if traced else text


def _power(left: Any, right: Any) -> Any:
    if abs(right) > 1024 or abs(left) > 2**64:
        raise OverflowError("`**` of numbers that large is blocked")
    return operator.pow(left, right)


@pass_environment
def _join(environment: Environment, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    return bounded(joined(map(str, value), str(d)))


def _replace(s: Any, old: Any, new: Any, count: int | None = None) -> str:
    return bounded(Traced(str(s)).replace(str(old), str(new), -1 if count is None else count))


def _indent(s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    text: str = FILTERS["indent"](s, width, first, blank)
    return derived(text, s) if isinstance(s, Traced) else text
