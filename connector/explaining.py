"""Explaining one family: a pass that reads, decides and stops there. It works with what :mod:`connector.wiring` connects."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from connector.config import resolve_url
from connector.errors import UsageError
from connector.journal import MemoryJournal, open_rehearsal
from connector.settings import Config
from connector.sync.outcome import Explanation, Progress
from connector.sync.ports import Clock, Match
from connector.sync.run import Pass, RunOptions
from connector.wiring import Parts, connect, new_request_id

MOST_MATCHES = 12
"""How many subscriptions of a similar name are listed when a person has to choose."""


def explain(config: Config, wanted: str, *, clock: Clock | None = None) -> tuple[Explanation, ...]:
    """Why a family stands where it stands; reads only.

    ``wanted`` is the id of its parent, of a child or of a licence change log, or a part of a name that only one
    subscription has. Raises UsageError when it means none or several, and any ConnectorError of reading.
    """
    connection = connect(config, Parts(clock=clock))
    with ExitStack() as stack:
        stack.callback(connection.close)
        connection.sign_in()
        time = connection.clock()
        journal = stack.enter_context(_journal_in_memory(config, time))
        crm = connection.crm(connection.mapping(), journal)
        match = _the_one_meant(wanted, crm.find_subscriptions(wanted, MOST_MATCHES))
        options = RunOptions(
            dry_run=True,
            only=match.subscription.id,
            parent_log=config.work365.parent_log,
            pushes=config.work365.pushes,
        )
        providers = connection.providers()
        work = Pass(
            "",
            "",
            crm,
            providers,
            journal,
            time,
            config.policy,
            connection.rules(),
            options,
            Progress(),
            new_request_id,
        )
        return tuple(replace(found, asked_log=match.log_id) for found in work.explain())


def _journal_in_memory(config: Config, clock: Clock) -> MemoryJournal:
    """What the journal knows, in memory: explaining changes nothing, not even there."""
    url = resolve_url(config.state.url) if config.state.url is not None else None
    return open_rehearsal(url or config.state.directory / "journal.sqlite3", now=clock.now())


def _the_one_meant(wanted: str, matches: Sequence[Match]) -> Match:
    whole = [match for match in matches if match.subscription.name.casefold() == wanted.strip().casefold()]
    chosen = whole if len(whole) == 1 else matches
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        raise UsageError(
            f"no subscription and no licence change log is called {wanted!r}",
            hint="give the id of a parent, a child or a log as the CRM shows it, or a part of a subscription's name",
        )
    listed = "; ".join(f"{match.subscription.name} ({match.subscription.id})" for match in chosen)
    several = f"{len(chosen)} or more" if len(chosen) == MOST_MATCHES else str(len(chosen))
    raise UsageError(f"{wanted!r} may mean {several} subscriptions: {listed}", hint="give the id of one of them")


def explain_rules(config: Config, subscription_id: str, *, clock: Clock | None = None) -> list[str]:
    """The ids of the rules that decide about a subscription's open changes now; empty when nothing objects."""
    rules: list[str] = []
    for found in explain(config, subscription_id, clock=clock):
        decision, parent = found.decision, found.family.parent
        is_parent = parent is not None and parent.id == subscription_id
        logs = [log for log in found.family.logs if log.subscription_id == subscription_id]
        own = [decided.rule for log in logs if (decided := found.decision_on(log.id)) is not None]
        if decision.awaits_person and (own or is_parent):
            own = [rule or "LS-032" for rule in own] or ["LS-032"]
        if decision.stop is not None and (is_parent or not own):
            own.append(decision.stop.rule)
        rules += own
    return list(dict.fromkeys(rule for rule in rules if rule))
