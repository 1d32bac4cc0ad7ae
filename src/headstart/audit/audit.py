"""The whole of an audit, in one function: `audit`.

    calls --> the first of them, by time --> replayed as they are --> misses, by cause --> each mended in turn, replayed
      \\                                                                                    and kept if it costs less
       `--> the rest, one by one: replayed as they are, and as mended

What a finding saves is the difference of two replays, so that the findings' savings add up to what all of them save.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import blake2b

import msgspec

from headstart.audit.call import Call, Skipped
from headstart.audit.edits import applied
from headstart.audit.findings import REMEDIES, Finding, Rates, Repeats
from headstart.audit.mending import Study
from headstart.audit.money import Settings, cost_of
from headstart.audit.replay import Prompts, Replay, Served
from headstart.audit.report import ModelSum, Report
from headstart.ledger.price_list import Tokens
from headstart.ledger.prices import rates_of

__all__ = ["Settings", "audit"]

STUDIED_CALLS, STUDIED_BYTES = 5_000, 64 * 1024 * 1024
"""Requests at the beginning of a log that edits are tried on, and the bytes of their bodies."""
RARELY = 0.1
"""Attainable hit rate under which caching can't pay."""
MOST_SKIPPED = 5


def audit(calls: Iterable[Call | Skipped], settings: Settings) -> tuple[Report, Replay, list[Call]]:
    """The report, the replay of the log as it is, and the calls that were studied."""
    report, prompts = Report(), Prompts()
    stream = _readable(calls, report)
    head = _head(stream)
    report.studied = len(head)
    study = Study(prompts, settings)
    plain = Replay(prompts, retention=settings.retention, blocks=settings.blocks)
    mended = Replay(prompts, retention=settings.retention, blocks=settings.blocks, explained=False)
    rates, repeats = Rates(), Repeats()
    by_model: dict[str, list[Served]] = defaultdict(list)

    def take(call: Call) -> Served | None:
        try:
            served = plain.take(call)
        except ValueError as error:
            _skip(report, Skipped(call.line, str(error)))
            return None
        _sum(report, served, settings)
        rates.take(served, _digest(served, 1))
        repeats.take(served, _digest(served, 0) or b"", _whole_cost(served, settings))
        return served

    for call in head:
        served = take(call)
        if served is not None:
            by_model[served.call.model].append(served)
    for model, served_calls in by_model.items():
        findings, report.edits[model] = study.mend(served_calls)
        report.findings += findings

    def attain(served: Served) -> None:
        edits = report.edits.get(served.call.model, ())
        _attained(report, mended.take(applied(edits, served.call)) if edits else served, settings)

    for served in itertools.chain(*by_model.values()):
        attain(served)
    extrapolated = False
    for call in stream:
        served = take(call)
        if served is not None:
            extrapolated = True
            attain(served)
    if extrapolated:
        _extrapolate(report)
    report.findings += [*rates.findings(), *repeats.findings.values()]
    _conclude(report, by_model)
    return report, plain, head


# ---------------------------------------------------------------------------------------------------- reading


def _readable(calls: Iterable[Call | Skipped], report: Report) -> Iterator[Call]:
    latest = float("-inf")
    for call in calls:
        if isinstance(call, Skipped):
            _skip(report, call)
            continue
        if call.time is not None:
            report.timed += 1
            report.shuffled += call.time < latest
            latest = max(latest, call.time)
            report.first = call.time if report.first is None else min(report.first, call.time)
            report.last = call.time if report.last is None else max(report.last, call.time)
        yield call


def _skip(report: Report, skipped: Skipped) -> None:
    report.skipped += 1
    if len(report.examples) < MOST_SKIPPED:
        report.examples.append(skipped)


def _head(stream: Iterator[Call]) -> list[Call]:
    """The first calls, by time; those without one stay behind the call before them."""
    head, size = [], 0
    for call in stream:
        head.append(call)
        size += len(msgspec.json.encode(call.body))
        if len(head) >= STUDIED_CALLS or size >= STUDIED_BYTES:
            break
    times, latest = [], float("-inf")
    for call in head:
        latest = call.time if call.time is not None else latest
        times.append(latest)
    return [head[at] for at in sorted(range(len(head)), key=times.__getitem__)]


def _digest(served: Served, least_blocks: int) -> bytes | None:
    """A name for a request's texts; with `least_blocks`, for the first 256 tokens or so of them."""
    texts = [text.text for message in served.request.messages for text in message.content]
    whole = "\x00".join(texts)
    if least_blocks:
        whole = whole[:1024]
    return blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _whole_cost(served: Served, settings: Settings) -> int | None:
    output = served.call.usage.output if served.call.usage else 0
    return cost_of(served, settings, Tokens(served.input, served.read, served.written, served.long, output))


def _sum(report: Report, served: Served, settings: Settings) -> None:
    model = report.models.setdefault(served.call.model, ModelSum(served.profile))
    model.predicted.add(served.input, served.read, served.written + served.long, cost_of(served, settings))
    model.uncached.add(served.input, 0, 0, cost_of(served, settings, Tokens(served.input)))
    usage = served.call.usage
    if usage is not None:
        written = usage.written_30m + usage.written_12h
        tokens = Tokens(usage.input, usage.cached, usage.written_30m, usage.written_12h)
        model.observed.add(usage.input, usage.cached, written, cost_of(served, settings, tokens))
        model.differ += usage.cached != served.read
        model.output += usage.output
        whole, plain = (
            cost_of(served, settings, tokens._replace(output=usage.output)),
            cost_of(served, settings, tokens),
        )
        known = whole is not None and plain is not None and model.output_cost is not None
        model.output_cost = model.output_cost + whole - plain if known else None  # type: ignore[operator]


def _attained(report: Report, served: Served, settings: Settings) -> None:
    model = report.models[served.call.model]
    model.attainable.add(served.input, served.read, served.written + served.long, cost_of(served, settings))


# ---------------------------------------------------------------------------------------------------- concluding


def _extrapolate(report: Report) -> None:
    """Savings were measured on the first requests; what all of them save is known for all. In the same proportions."""
    for name, model in report.models.items():
        ours = [finding for finding in report.findings if finding.model == name and finding.edits]
        known = sum(finding.saved or 0 for finding in ours)
        if model.predicted.cost is None or model.attainable.cost is None or not known:
            continue
        whole = model.predicted.cost - model.attainable.cost
        tokens = (model.predicted.input - model.predicted.cached) - (model.attainable.input - model.attainable.cached)
        head = sum(finding.tokens or 0 for finding in ours)
        for finding in ours:
            finding.saved = round((finding.saved or 0) * whole / known)
            finding.tokens = round((finding.tokens or 0) * tokens / head) if head else finding.tokens
            finding.estimated = True


def _conclude(report: Report, by_model: dict[str, list[Served]]) -> None:
    """The most worth first; and where caching can't pay, that before anything else."""
    for finding in report.findings:
        model = report.models[finding.model]
        if finding.saved is None and finding.estimated and finding.lost and finding.cause != "key_too_coarse":
            finding.tokens = finding.lost
            rates = rates_of(finding.model, model.profile.provider)
            uncached = model.uncached
            if rates is not None and uncached.cost is not None and uncached.input:
                finding.saved = int(finding.lost * uncached.cost / uncached.input * float(1 - rates.read))
    for name, served in by_model.items():
        model = report.models[name]
        alone = [each for each in served if each.explanation.cause in ("first_request", "below_minimum")]
        mended = any(finding.saved for finding in report.findings if finding.model == name and _reads(finding))
        if model.attainable.rate < RARELY and len(served) > 1 and len(alone) > len(served) / 2 and not mended:
            report.findings.append(
                Finding("unrepeated", name, requests=len(alone), remedy=REMEDIES["unrepeated"], saved=0, tokens=0)
            )
    report.findings = [
        finding
        for finding in report.findings
        if not (finding.cause == "below_minimum" and finding.saved is None and _alone(report, finding))
    ]
    report.findings.sort(key=lambda found: (found.cause != "unrepeated", -(found.saved or 0), -(found.tokens or 0)))
    _note(report)


def _reads(finding: Finding) -> bool:
    return finding.cause not in ("unread_writes", "output_not_cached")


def _alone(report: Report, finding: Finding) -> bool:
    """Whether its model's requests repeat nothing at all, which is then said instead."""
    return any(other.cause == "unrepeated" and other.model == finding.model for other in report.findings)


def _note(report: Report) -> None:
    if report.requests and not report.timed:
        report.notes.append("The log has no times: nothing expires in the replay, and there are no figures for a day.")
    for name, model in report.models.items():
        if not model.profile.known:
            report.notes.append(
                f"'{name}' is not known: taken for a model of the interval rules, tokens of o200k_base."
            )
        elif model.profile.rules == "claude":
            report.notes.append(
                f"{name}: tokens are an estimate, counted with o200k_base; Claude's own differ by some."
            )
        elif model.profile.rules == "none":
            report.notes.append(f"{name} caches nothing: use a newer model.")
        if model.output_cost and model.observed.cost is not None:
            share = model.output_cost / (model.output_cost + model.observed.cost)
            if share > 0.5:
                report.notes.append(f"{name}: {share:.0%} of the bill is output, which is never cached.")
