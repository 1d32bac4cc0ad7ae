"""`headstart usage`, on ledgers that were written as a server writes them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from tests.postgres import binaries, server
from typer.testing import CliRunner, Result

from headstart.cache.diagnosis import REMEDIES
from headstart.cli.app import app
from headstart.cli.usage import seconds_back, span_of
from headstart.cli.usage_report import SHOWN_LINES, By
from headstart.errors import StartError
from headstart.ledger.database import open_database
from headstart.ledger.ledger import Ledger
from headstart.types import Cause, Usage

HOSTILE = "=evil\n\x1b[31mred\x1b]0;title\x07\u202e[red]x[/]"
NOW = datetime(2026, 11, 23, 18, 30, 20, tzinfo=UTC).timestamp()

SERVER = """
import sys, threading, time
from pathlib import Path
from headstart.ledger.database import open_database
from headstart.ledger.ledger import Ledger
from headstart.types import Usage

ledger = Ledger(open_database(Path(sys.argv[1])))
ended = threading.Thread(target=sys.stdin.read)
ended.start()
written = 0
while ended.is_alive():
    for model in ("a", "b", "c"):
        ledger.record(Usage(time.time(), "default", "", model, "responses", "completed", 1.0, str(written), input=10))
        written += 1
    ledger.flush(5)
    if written == 3:
        print("ready", flush=True)
ledger.close()
"""
"""A process that writes a ledger all the time, as a busy server does."""


@pytest.fixture(autouse=True)
def _no_shared_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledgers are the tests' own."""
    monkeypatch.delenv("HEADSTART_LEDGER_URL", raising=False)


def row(model: str = "gpt-4.1-mini", *, ago: float = 1.0, **fields: Any) -> Usage:
    """A request of some seconds ago: the tutorial's second one, unless told otherwise."""
    tutorial: dict[str, Any] = {"input": 4616, "cached": 4608, "output": 200, "ttft": 0.02}
    costs = {"cost": 783_000_000, "uncached_cost": 2_166_400_000}
    first = Usage(time.time() - ago, "default", "laptop", model, "responses", "completed", 1.5)
    return first._replace(**{**tutorial, **costs, **fields})


def fill(place: Path | str, rows: Iterable[Usage]) -> None:
    """Write rows as a server does."""
    ledger = Ledger(open_database(place))
    for one in rows:
        ledger.record(one)
    assert ledger.flush(10)
    ledger.close()


def invoke(data: Path, *arguments: str, columns: int = 80) -> Result:
    """A command's result; what is raised is raised."""
    runner = CliRunner(env={"COLUMNS": str(columns)})
    return runner.invoke(app, ["usage", *arguments, "--data-dir", str(data)], catch_exceptions=False)


def usage(data: Path, *arguments: str, columns: int = 80) -> str:
    """What a command that succeeds prints."""
    result = invoke(data, *arguments, columns=columns)
    assert result.exit_code == 0, result.output
    return result.stdout


def document(data: Path, *arguments: str) -> Any:
    """The JSON that it prints."""
    return json.loads(usage(data, *arguments, "--json"))


def table(data: Path, *arguments: str) -> list[str]:
    """The lines that it prints for people, of which none is wider than 80 columns."""
    lines = usage(data, *arguments).splitlines()
    assert max(map(cell_len, lines)) <= 80
    return lines


# ------------------------------------------------------------------------------------------------ what the figures are


VALUES: dict[By, Callable[[Usage], str]] = {
    "model": lambda one: one.model,
    "organisation": lambda one: one.organisation,
    "key": lambda one: one.key,
    "hour": lambda one: f"{datetime.fromtimestamp(one.time, UTC):%Y-%m-%dT%H}:00:00Z",
    "cause": lambda one: one.cause or "",
}

names = st.sampled_from(["", "a", "b", "=c"])
costs = st.sampled_from([(None, None), (0, 0), (1, 3), (783_000_000, 2_166_400_000), (9 * 10**12, 10**12)])
ROWS = st.lists(
    st.builds(
        lambda model, priced, **fields: row(model, cost=priced[0], uncached_cost=priced[1], **fields),
        names,
        costs,
        ago=st.integers(1, 30 * 3600),
        organisation=names,
        key=names,
        status=st.sampled_from(["completed", "incomplete", "failed", "cancelled", "refused"]),
        input=st.integers(0, 10**6),
        cached=st.just(0) | st.integers(0, 10**6),
        written_30m=st.integers(0, 99),
        written_12h=st.integers(0, 99),
        output=st.integers(0, 10**6),
        missed=st.integers(0, 10**6),
        ttft=st.none() | st.floats(0.001, 100),
        cause=st.none() | st.sampled_from(get_args(Cause)),
    ),
    max_size=25,
)


def counted(rows: Sequence[Usage]) -> dict[str, Any]:
    """The figures of some rows, the long way."""
    priced = [(one.cost, one.uncached_cost) for one in rows if one.cost is not None and one.uncached_cost is not None]
    cost, uncached = sum(cost for cost, _ in priced), sum(uncached for _, uncached in priced)
    known = bool(priced and (len(priced) == len(rows) or cost or uncached))
    tokens, cached = sum(one.input for one in rows), sum(one.cached for one in rows)
    figures: dict[str, Any] = {
        "requests": len(rows),
        "warm_requests": sum(one.cached > 0 for one in rows),
        "failed_requests": sum(one.status in ("failed", "cancelled", "refused") for one in rows),
        "input_tokens": tokens,
        "cached_tokens": cached,
        "written_tokens": sum(one.written_30m + one.written_12h for one in rows),
        "output_tokens": sum(one.output for one in rows),
        "missed_tokens": sum(one.missed for one in rows),
        "hit_rate": cached / tokens if tokens else None,
        "priced_requests": len(priced),
        "cost": cost if known else None,
        "uncached_cost": uncached if known else None,
        "saved": uncached - cost if known else None,
    }
    for name, warm in (("ttft_warm", True), ("ttft_cold", False)):
        timed = [one for one in rows if one.cause != "below_minimum" and one.warm is warm]
        times = sorted(one.ttft for one in timed if one.ttft is not None)
        figures[f"{name}_requests"] = len(times)
        for share in (50, 95):
            at = times[math.ceil(share * len(times) / 100) - 1] if times else None
            figures[f"{name}_p{share}"] = at if at is None else pytest.approx(at, rel=0.026)
    return figures


def in_picodollars(figures: dict[str, Any]) -> dict[str, Any]:
    """A line's figures with its costs as the ledger has them."""
    read: dict[str, Any] = {}
    for name in ("cost", "uncached_cost", "saved"):
        dollars = figures[name]
        if dollars is not None:
            whole, _, rest = dollars.partition(".")
            read[name] = int(whole.lstrip("-") + rest.ljust(12, "0")) * (-1 if dollars.startswith("-") else 1)
    return {**figures, **read}


# Unshrunk: an example takes five runs of the command, and shrinking one would take minutes.
@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(rows=ROWS)
def test_json_is_the_sum_of_the_rows(rows: list[Usage]) -> None:
    """Of every group, and of all: as if one had counted the rows since the hour in which the range begins."""
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory)
        fill(data / "usage.db", rows)
        for by, value in VALUES.items():
            asked = time.time() - 86_400
            said = document(data, "--by", by)
            since = datetime.fromisoformat(said["since"]).timestamp()
            assert since % 3600 == 0
            assert asked - 3600 < since <= time.time() - 86_400
            inside = [one for one in rows if one.time >= since]
            assert in_picodollars(said["total"]) == counted(inside)
            groups = {name: [one for one in inside if value(one) == name] for name in map(value, inside)}
            assert {line.pop(by): in_picodollars(line) for line in said["lines"]} == {
                name: counted(group) for name, group in groups.items()
            }


def test_the_tutorials_second_request(tmp_path: Path) -> None:
    """What a newcomer sees: the hit rate, the cost, the saving; no footnote."""
    fill(tmp_path / "usage.db", [row()])
    lines = table(tmp_path)
    assert lines[0].startswith("Usage since 20")
    assert lines[-2].split() == [
        *("All", "requests", "1", "4,616", "99.8%", "$0.000783", "warm"),
        *("20", "ms", "20", "ms"),
    ]
    assert lines[-1].split() == ["1", "4,608", "0", "$0.001383", "cold", "–", "–"]


def test_csv_is_the_same_as_json(tmp_path: Path) -> None:
    """A header and a line for each group, or one for all."""
    fill(tmp_path / "usage.db", [row("a"), row("b", cost=None, uncached_cost=None, ttft=None)])
    for arguments in ((), ("--by", "model"), ("--by", "hour")):
        said = document(tmp_path, *arguments)
        read = list(csv.DictReader(io.StringIO(usage(tmp_path, *arguments, "--csv"))))
        expected = said["lines"] if arguments else [said["total"]]
        assert read == [{k: "" if v is None else str(v) for k, v in line.items()} for line in expected]


# ----------------------------------------------------------------------------------------------------------- the table


def test_causes_come_with_their_remedies(tmp_path: Path) -> None:
    """Without --by: the three that missed most, and how to see the others; all of them by cause."""
    missed: dict[Cause, int] = {"prefix_changed": 9000, "first_request": 0, "evicted": 512, "expired": 1280}
    rows = [row(cached=0, cause=cause, missed=tokens) for cause, tokens in missed.items()]
    fill(tmp_path / "usage.db", [*rows, row(cached=0, cause="expired", missed=128), row()])
    text = " ".join(usage(tmp_path).split())
    first = [
        "prefix_changed: 9,000 tokens missed in 1 request " + REMEDIES["prefix_changed"],
        "expired: 1,408 tokens missed in 2 requests " + REMEDIES["expired"],
        "evicted: 512 tokens missed in 1 request " + REMEDIES["evicted"],
    ]
    assert text.endswith(f"{' '.join(first)} … and 1 cause more: headstart usage --by cause")
    every = " ".join(usage(tmp_path, "--by", "cause").split())
    assert every.endswith(f"{' '.join(first)} first_request: 1 request {REMEDIES['first_request']}")
    assert "(no miss)" in every
    assert "what to do" not in usage(tmp_path, "--by", "model")


def test_no_misses_no_causes(tmp_path: Path) -> None:
    """Nothing is to be mended where nothing missed."""
    fill(tmp_path / "usage.db", [row()])
    assert "what to do" not in usage(tmp_path)


def test_unknown_costs_are_never_nothing(tmp_path: Path) -> None:
    """A dash for a model without a price, also beside a refused request, which cost nothing; and what to do."""
    free: dict[str, Any] = {"cost": None, "uncached_cost": None}
    refused = row("mine", status="refused", input=0, cached=0, ttft=None, cost=0, uncached_cost=0)
    fill(tmp_path / "usage.db", [row("mine", **free), refused])
    total = document(tmp_path)["total"]
    assert (total["cost"], total["uncached_cost"], total["saved"], total["priced_requests"]) == (None, None, None, 1)
    lines = table(tmp_path)
    assert not any("$" in line for line in lines)
    assert "1 of 2 requests has no price: set one with [[models]] price." in lines
    assert "1 request failed, broke off or got no answer." in lines
    fill(tmp_path / "usage.db", [row()])
    by_model = {line["model"]: line["cost"] for line in document(tmp_path, "--by", "model")["lines"]}
    assert by_model == {"mine": None, "gpt-4.1-mini": "0.000783"}
    assert document(tmp_path)["total"]["cost"] == "0.000783"


def test_losses_are_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes that were never read cost more than no cache."""
    fill(tmp_path / "usage.db", [row(cost=2_500_000, uncached_cost=2_000_000)])
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[31m-$0.000001\x1b[0m" in usage(tmp_path)
    assert document(tmp_path)["total"]["saved"] == "-0.0000005"


def test_many_groups(tmp_path: Path) -> None:
    """The table has the first fifty and says so; scripts get all. The total is of all."""
    fill(tmp_path / "usage.db", [row(f"model-{n}") for n in range(SHOWN_LINES + 7)])
    lines = table(tmp_path, "--by", "model")
    assert sum("model-" in line for line in lines) == SHOWN_LINES
    assert "… and 7 more; --json and --csv have all." in lines
    assert any(line.split()[:3] == ["All", "requests", "57"] for line in lines)
    assert len(document(tmp_path, "--by", "model")["lines"]) == SHOWN_LINES + 7
    assert len(usage(tmp_path, "--by", "model", "--csv").splitlines()) == SHOWN_LINES + 8


def test_large_figures_fit(tmp_path: Path) -> None:
    """A name is cut before a figure is."""
    much: dict[str, Any] = {"input": 9 * 10**12, "cached": 8 * 10**12, "missed": 10**11}
    dear = {"cost": 10**17, "uncached_cost": 3 * 10**17, "ttft": 1234.0}
    fill(tmp_path / "usage.db", [row("x" * 50, **much, **dear), row("東京" * 20), row("two words, " * 5)])
    text = "\n".join(table(tmp_path, "--by", "model"))
    assert all(figure in text for figure in ("9T", "8T", "100B", "$100,000", "$200,000"))
    assert re.search(r"^x{7,}… ", text, re.MULTILINE)
    assert re.search(r"^[東京]{3,}… ", text, re.MULTILINE)
    assert text.count("words") == 1
    assert "x" * 50 in usage(tmp_path, "--by", "model", columns=140)


def test_hours_are_utc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By time, wherever the server stands; also within the last six hours, which have sums by the minute."""
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        fill(tmp_path / "usage.db", [row(ago=ago) for ago in (1, 2, 3700, 7300)])
        said = document(tmp_path, "--by", "hour", "--since", "3h")
        text = usage(tmp_path, "--by", "hour", "--since", "3h")
    finally:
        monkeypatch.undo()
        time.tzset()
    hours = [datetime.fromisoformat(line["hour"]) for line in said["lines"]]
    assert len(hours) >= 3
    assert hours == sorted(hours)
    assert all(hour.timestamp() % 3600 == 0 for hour in hours)
    assert "Hour (UTC)" in text
    assert all(f"{hour:%Y-%m-%d %H:%M} " in text for hour in hours)
    assert f"Usage since {datetime.fromisoformat(said['since']):%Y-%m-%d %H}:00 UTC" in text


def test_hostile_names(tmp_path: Path) -> None:
    """No terminal acts on a name, no markup is made of it, no spreadsheet computes it; JSON has it as it is."""
    fill(tmp_path / "usage.db", [row(HOSTILE, organisation="[bold]o[/]", key="@SUM(A1)")])
    text = usage(tmp_path, "--by", "model", columns=140)
    assert r"=evil\n\x1b[31mred\x1b]0;title\x07\u202e[red]x[/]" in text
    assert "[bold]o[/]" in usage(tmp_path, "--by", "organisation")
    assert document(tmp_path, "--by", "model")["lines"][0]["model"] == HOSTILE
    for by, begins in (("model", "'=evil\\n"), ("key", "'@SUM(A1)"), ("organisation", "[bold]o[/]")):
        printed = usage(tmp_path, "--by", by, "--csv")
        assert set("\x1b\x07\u202e").isdisjoint(printed)
        assert next(iter(csv.DictReader(io.StringIO(printed))))[by].startswith(begins)


# ------------------------------------------------------------------------------------------------------------ the range


@pytest.mark.parametrize(
    ("since", "begins", "by"),
    [
        ("90m", "2026-11-23 17:00:00", None),
        ("1.5h", "2026-11-23 17:00:00", None),
        ("6h", "2026-11-23 12:30:00", None),
        ("6h", "2026-11-23 12:00:00", "hour"),
        ("24h", "2026-11-22 18:00:00", "key"),
        ("7d", "2026-11-16 18:00:00", None),
        ("2w", "2026-11-09 00:00:00", None),
        ("2w", "2026-11-09 18:00:00", "hour"),
        ("2026-11-01", "2026-11-01 00:00:00", None),
        (" 2026-11-23T18:00 ", "2026-11-23 18:00:00", None),
        ("2026-11-23T18:00+02:00", "2026-11-23 16:00:00", None),
        ("2016-11-24", "2016-11-24 00:00:00", None),
    ],
)
def test_ranges(since: str, begins: str, by: By | None) -> None:
    """A range begins with the step that it falls in."""
    over = span_of(since, NOW, by)
    assert f"{datetime.fromtimestamp(over.since, UTC):%Y-%m-%d %H:%M:%S}" == begins
    assert over.until == NOW


@pytest.mark.parametrize(
    ("since", "message"),
    [
        ("0h", "0h is too short: a minute"),
        ("0.001m", "too short"),
        ("-3h", "write it like 90m, 24h, 7d or 2w"),
        ("", "write it like"),
        ("24", "write it like"),
        ("24H", "write it like"),
        ("30s", "write it like"),
        ("٣h", "write it like"),
        ("nan", "write it like"),
        ("inf", "write it like"),
        ("1e3h", "write it like"),
        ("yesterday", "write it like"),
        ("2026-13-01", "write it like"),
        ("2026-02-30", "write it like"),
        ("522w", "ten years"),
        ("9" * 400 + "d", "ten years"),
        ("0001-01-01", "ten years"),
        ("0001-01-01T00:00+23:59", "ten years"),
        ("2026-11-24", "lies in the future: it is 2026-11-23 18:30 UTC now"),
        ("9999-12-31T23:59-23:59", "lies in the future"),
        ("\x1b[31mred", r"--since \x1b[31mred is no time"),
    ],
)
def test_bad_ranges(since: str, message: str) -> None:
    """What is wrong with it and what would be right, whatever it is."""
    with pytest.raises(StartError, match=re.escape(message)):
        seconds_back(since, NOW)


@given(st.text(max_size=12) | st.from_regex(r"[0-9.]{1,6}[a-z]?|[0-9]{4}-[0-9W-]{2,6}", fullmatch=True))
def test_any_range_is_one_or_is_refused(since: str) -> None:
    """Nothing that is typed ends in a traceback, nor in a range that is none."""
    try:
        seconds = seconds_back(since, NOW)
    except StartError:
        return
    assert 0 <= seconds <= 3653 * 86_400


def test_hours_are_not_kept_for_ever(tmp_path: Path) -> None:
    """A range of which the first hours are gone would be told wrongly."""
    with pytest.raises(StartError, match="401d is too long ago for --by hour: hours are kept for 400 days"):
        invoke(tmp_path, "--since", "401d", "--by", "hour")
    assert span_of("399d", NOW, "hour").grain == 3600


def test_bad_options(tmp_path: Path) -> None:
    """One way to print; and only what there are lines by."""
    with pytest.raises(StartError, match="choose one"):
        invoke(tmp_path, "--json", "--csv")
    assert invoke(tmp_path, "--by", "colour").exit_code == 2


# --------------------------------------------------------------------------------------------------------- the database


def test_no_ledger_is_no_error(tmp_path: Path) -> None:
    """Where no server ran there is nothing to see, and nothing is made."""
    said = " ".join(usage(tmp_path).split())
    assert said == f"No usage yet: there is no ledger {tmp_path}/usage.db. A server makes it: headstart serve"
    empty = document(tmp_path, "--by", "model")
    assert (empty["total"], empty["lines"]) == (counted([]), [])
    assert usage(tmp_path, "--by", "model", "--csv").startswith("model,requests,")
    assert list(tmp_path.iterdir()) == []
    config = tmp_path / "headstart.toml"
    config.write_text("[ledger]\nenabled = false\n")
    assert "It is off: [ledger] enabled = false" in usage(tmp_path, "--config", str(config))


def test_no_requests(tmp_path: Path) -> None:
    """An empty ledger, and one whose requests are older."""
    fill(tmp_path / "usage.db", [])
    assert usage(tmp_path).startswith("No requests since 20")
    fill(tmp_path / "usage.db", [row(ago=90_000 + 3600)])
    assert usage(tmp_path).startswith("No requests since 20")
    assert document(tmp_path, "--by", "hour")["lines"] == []
    assert document(tmp_path, "--since", "3d")["total"]["requests"] == 1


def damage_header(path: Path) -> None:
    """Another file's beginning."""
    path.write_bytes(b"no database" * 1000)


def damage_pages(path: Path) -> None:
    """A good beginning, and rubbish behind it."""
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))


def expose(path: Path) -> None:
    """Others may read it."""
    path.chmod(0o644)


def put_directory(path: Path) -> None:
    """No file at all."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [damage_header, damage_pages, expose, put_directory])
def test_a_file_that_cannot_be_read(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    """One sentence with its name."""
    path = tmp_path / "usage.db"
    fill(path, [row()])
    spoil(path)
    with pytest.raises(StartError, match=re.escape(str(path))):
        invoke(tmp_path)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_another_owners_directory(tmp_path: Path) -> None:
    """What may not be looked at isn't called empty."""
    fill(tmp_path / "usage.db", [row()])
    tmp_path.chmod(0)
    try:
        with pytest.raises(StartError, match="can't be opened: "):
            invoke(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_beside_a_server(tmp_path: Path) -> None:
    """While another process writes, every answer is whole: its lines come to its total."""
    command = [sys.executable, "-c", SERVER, str(tmp_path / "usage.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        seen: list[int] = []
        deadline = time.monotonic() + 20
        while len(set(seen)) < 5 and time.monotonic() < deadline:
            said = document(tmp_path, "--by", "model")
            seen.append(said["total"]["requests"])
            assert seen[-1] == sum(line["requests"] for line in said["lines"])
        process.communicate()
    assert process.returncode == 0
    assert len(set(seen)) == 5
    assert seen == sorted(seen)
    assert document(tmp_path)["total"]["requests"] >= seen[-1]


def test_a_shared_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration's PostgreSQL database, or the environment's; no file is made."""
    programs = binaries()
    if programs is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    with server(programs) as running:
        one, other = running.database(), running.database()
        fill(one, [row("a"), row("b", cached=0, cause="evicted", missed=128)])
        fill(other, [row("c")])
        config = tmp_path / "headstart.toml"
        config.write_text(f'[ledger]\nurl = "{one}"\n')
        options = ("--config", str(config), "--by", "model")
        assert {line["model"] for line in document(tmp_path, *options)["lines"]} == {"a", "b"}
        assert REMEDIES["evicted"] in usage(tmp_path, *options[:2])
        monkeypatch.setenv("HEADSTART_LEDGER_URL", other)
        assert {line["model"] for line in document(tmp_path, *options)["lines"]} == {"c"}
    assert list(tmp_path.iterdir()) == [config]
    monkeypatch.setenv("HEADSTART_LEDGER_URL", other.replace("tests@", "tests:hunter2@"))
    with pytest.raises(StartError, match="The ledger's PostgreSQL database can't be read: ") as raised:
        invoke(tmp_path)
    assert "hunter2" not in str(raised.value)
