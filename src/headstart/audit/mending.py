"""Findings mended one after the other: each group of misses is replayed with every edit that may help, and the one that
costs least is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headstart.audit.call import Call
from headstart.audit.edits import DropMarks, Edit, Mark, SetOption, applied
from headstart.audit.findings import REMEDIES, Finding, Group, finding_of, groups, writes_by_model
from headstart.audit.money import Settings, cost_of, weight
from headstart.audit.options import LOOKED_AT, Option, kind_of, marked, options, shared_prefix
from headstart.audit.replay import Prompts, Replay, Served
from headstart.cache.diagnosis import remedy_of
from headstart.ledger.prices import padding_pays_from, rates_of

ROUNDS = 8
"""Findings of a model that are mended."""
TRIED = 6
"""Causes that are tried in a round, the largest loss first."""
WORTH = 0.99
"""What an edit may leave of a model's input cost to be worth telling."""
NOTABLE = 0.005
"""Share of a model's input tokens under which a loss that can't be mended isn't told."""


@dataclass(frozen=True)
class Study:
    """Replays parts of a log, as they are and changed."""

    prompts: Prompts
    settings: Settings

    def replayed(self, calls: Sequence[Call], edits: tuple[Edit, ...]) -> list[Served]:
        """The calls, each with these edits, in a cache of their own."""
        replay = Replay(self.prompts, retention=self.settings.retention, blocks=self.settings.blocks)
        return [replay.take(applied(edits, call)) for call in calls]

    def cost(self, served: Sequence[Served]) -> int:
        """Of all their input."""
        return sum(weight(each, self.settings) for each in served)

    def mend(self, served: Sequence[Served]) -> tuple[list[Finding], tuple[Edit, ...]]:
        """Of one model's requests: what is found, and the edits that together cost least."""
        calls = [each.call for each in served]
        findings: list[Finding] = []
        edits: tuple[Edit, ...] = ()
        tried: set[tuple[str, str | None, str | None]] = set()
        notable = NOTABLE * sum(each.input for each in served)
        now = list(served)
        for round in range(ROUNDS):
            for group in self._worthwhile(now, tried):
                finding = finding_of(group)
                self._explain(finding, group)
                best = self._best(calls, edits, group, now)
                if best is not None:
                    option, after = best
                    self._saved(finding, option, now, after)
                    findings.append(finding)
                    edits, now = (*edits, *option), after
                    break
                if round == 0 and (group.lost >= notable if group.lost else finding.path is not None):
                    finding.estimated = True
                    findings.append(finding)
            else:
                break
        unread = self._unread(calls, edits, now)
        if unread is not None:
            finding, option = unread
            findings.append(finding)
            edits = (*edits, *option)
        return findings, edits

    def _worthwhile(self, served: Sequence[Served], tried: set[tuple[str, str | None, str | None]]) -> Iterator[Group]:
        found = groups(served)
        for group in found[:TRIED]:
            name = (group.cause, group.kind, group.path)
            if name not in tried and (group.lost or group.cause == "below_minimum"):
                tried.add(name)
                yield group

    def _best(
        self, calls: Sequence[Call], edits: tuple[Edit, ...], group: Group, now: Sequence[Served]
    ) -> tuple[Option, list[Served]] | None:
        """The option that costs least, and what it gives; None if none costs less. Where a model wants a breakpoint,
        what is behind the stable part may have to be marked too before anything is read."""
        cost, best = self.cost(now) * WORTH, None
        for option in options(group, self.prompts):
            if all(applied(option, each.call) is each.call for each in group.served[:LOOKED_AT]):
                continue
            after = self.replayed(calls, (*edits, *option))
            if group.cause == "prefix_changed" and group.served[0].profile.rules in ("breakpoint", "claude"):
                for more in self._marks(after):
                    both = (*option, *more)
                    further = self.replayed(calls, (*edits, *both))
                    if self.cost(further) < self.cost(after):
                        option, after = both, further
            if self.cost(after) < cost:
                cost, best = self.cost(after), (option, after)
        return best

    def _marks(self, served: Sequence[Served]) -> Iterator[Option]:
        unmarked = [group for group in groups(served) if group.cause == "boundary_not_marked"]
        for group in unmarked[:1]:
            yield from marked(group, self.prompts)

    def _saved(self, finding: Finding, option: Option, before: Sequence[Served], after: Sequence[Served]) -> None:
        finding.edits = option
        if finding.cause == "prefix_changed" and (kind := kind_of(option[0])) is not None:
            finding.kind, finding.remedy = kind, remedy_of(finding.cause, kind)
        if len(option) > 1 and isinstance(option[-1], Mark) and finding.cause == "prefix_changed":
            finding.remedy += " Put a breakpoint at the end of what stays the same."
        finding.tokens = sum(each.input - each.read for each in before) - sum(each.input - each.read for each in after)
        if all(cost_of(each, self.settings) is not None for each in before):
            finding.saved = self.cost(before) - self.cost(after)

    def _explain(self, finding: Finding, group: Group) -> None:
        """What a prefix lacks, and from where on padding pays."""
        if group.cause != "below_minimum":
            return
        profile = group.served[0].profile
        shared = shared_prefix(group.served, self.prompts)
        if shared is None:
            return  # there is no prefix to make longer
        lacking = profile.minimum - shared.tokens
        rates = rates_of(group.model, profile.provider)
        finding.path = shared.path
        finding.remedy = (
            f"Make the shared prefix longer: it has {shared.tokens} tokens, {lacking} fewer than the "
            f"{profile.minimum} from which on a prefix is cached. Examples or instructions that help are best."
        )
        if rates is None:
            return
        pays = padding_pays_from(profile.minimum, shared.requests, rates)
        finding.note = f"Over {shared.requests} requests padding pays for prefixes of {pays} tokens and more."
        if shared.tokens < pays:
            finding.remedy = (
                f"Leave it: the shared prefix has {shared.tokens} tokens, and padding it to {profile.minimum} costs "
                "more than it saves."
            )

    def _unread(
        self, calls: Sequence[Call], edits: tuple[Edit, ...], now: Sequence[Served]
    ) -> tuple[Finding, Option] | None:
        """Writes that cost more than they save."""
        for model, (written, _) in writes_by_model(now).items():
            claude = now[0].profile.rules == "claude"
            option: Option = (DropMarks(),) if claude else (SetOption("prompt_cache_options", {"mode": "explicit"}),)
            after = self.replayed(calls, (*edits, *option))
            if written and self.cost(after) < self.cost(now) * WORTH:
                finding = Finding("unread_writes", model, None, None, len(calls), written, REMEDIES["unread_writes"])
                self._saved(finding, option, now, after)
                return finding, option
        return None
