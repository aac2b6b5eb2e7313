"""A host that runs the real connector: what its composition root builds, with clock, session, tokens and journal lent.

Whoever owns a host says what becomes of each HTTP call (`Exchange`): that is where faults, people and other hosts come in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NoReturn, Protocol

import requests

from connector.domain.policy import Policy
from connector.http.session import make_session
from connector.journal import MemoryJournal
from connector.mapping import CrmMapping, load_mapping
from connector.providers.plugin import ProviderPlugin
from connector.providers.registry import load_plugins
from connector.sandbox.app import Sandbox
from connector.sandbox.faults import Fault as SandboxFault
from connector.sandbox.faults import status_answer
from connector.sandbox.scenario import build_scenario
from connector.sandbox.trace import batch_parts
from connector.sandbox.wire import Request, Response
from connector.settings import Config
from connector.sync.outcome import RunResult
from connector.sync.ports import IntentState
from connector.wiring import Parts, RunRequest, rule_book, run_once
from tests.harness.faults import Crash, Kind
from tests.harness.in_process import DATAVERSE, PARTNER_CENTER, InProcess, Tokens

FOR_EVER = timedelta(days=3650)

Exchange = Callable[["Host", str, Request], tuple[Response, bool]]
"""(host, service, request) → the answer, and whether its body is cut on the way. May raise what a session raises."""


class Wrong(Protocol):
    """A connector that is wrong on purpose (see `wrong`)."""

    def at_work(self) -> AbstractContextManager[None]:
        """While inside, the connector of this process is the wrong one."""

    def plugins(self, right: Mapping[str, ProviderPlugin]) -> Mapping[str, ProviderPlugin]:
        """The provider plug-ins that it uses."""


class HostClock:
    """The clock of the machine that a connector runs on: it may be wrong. Waiting takes the world's time."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._clock = sandbox.clock
        self.skew = timedelta()

    def now(self) -> datetime:
        return self._clock.now() + self.skew

    def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)


class Kept:
    """What was read of the organisation's metadata: the same in all worlds, and no part of a unit of work."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def remember(self, key: str, value: str) -> None:
        self._values[key] = value

    def recall(self, key: str) -> str | None:
        return self._values.get(key)


class Memory:
    """A host's memory: the metadata is known, everything else is in the journal and goes with it."""

    def __init__(self, known: Kept, journal: MemoryJournal) -> None:
        self._known = known
        self._journal = journal

    def remember(self, key: str, value: str) -> None:
        self._journal.remember(key, value)

    def recall(self, key: str) -> str | None:
        found = self._known.recall(key)
        return found if found is not None else self._journal.recall(key)


class Host:
    """One machine with the connector on it. ``journal`` is its disk: what is there outlives a process that is killed."""

    def __init__(
        self,
        sandbox: Sandbox,
        name: str,
        exchange: Exchange,
        *,
        policy: Policy | None = None,
        wrong: Wrong | None = None,
        metadata: Kept | None = None,
    ) -> None:
        self.name = name
        self.sandbox = sandbox
        self.clock = HostClock(sandbox)
        self.journal = MemoryJournal()
        self.policy = policy or Policy()
        self.passes = 0
        self.wrong = wrong
        self._declared: tuple[tuple[str, str], ...] = ()
        self._reads_metadata = metadata is not None
        self._metadata = metadata if metadata is not None else organisation()
        self._at_death: dict[str, Any] | None = None
        self._session = make_session()
        self._session.mount("https://", InProcess(lambda service, request: exchange(self, service, request)))
        self._session.trust_env = False
        self._tokens = {api: Tokens(sandbox, api) for api in ("dataverse", "partner_center")}

    def forget(self) -> None:
        """The journal is lost."""
        self.journal = MemoryJournal()

    def declare(self, **ways: str) -> None:
        """Write into its configuration what the organisation's Work 365 does."""
        self._declared = tuple(sorted(ways.items()))

    def close(self) -> None:
        self._session.close()

    def die(self) -> NoReturn:
        """The process is killed here: whatever ``finally`` does on the way out does not reach the disk."""
        self._at_death = vars(copy_of(self.journal))
        raise Crash

    def run_once(self, *, dry_run: bool = False) -> RunResult | None:
        """One pass; None if the process was killed in it."""
        self.passes += 1
        journal = opened(self.journal)
        parts = Parts(
            clock=self.clock,
            session=self._session,
            tokens=lambda scope: self._tokens["dataverse" if scope.startswith(DATAVERSE) else "partner_center"],
            journal=journal,
            memory=self._metadata if self._reads_metadata else Memory(self._metadata, journal),
            metadata_max_age=FOR_EVER,
            mapping=_mapping(),
            plugins=_plugins() if self.wrong is None else self.wrong.plugins(_plugins()),
            rules=_rules(),
            jitter=_half,
        )
        try:
            return run_once(
                config_of(self.name, self.policy, self._declared), RunRequest(dry_run=dry_run, parallel=1), parts=parts
            )
        except Crash:
            assert self._at_death is not None
            put_back(self.journal, self._at_death)
            self._at_death = None
            return None


# --- journals --------------------------------------------------------------------------------------------------------

OF_A_PROCESS = ("_run_id", "_held", "_guard")
"""What a journal holds in the memory of the process that opened it; the rest is its disk."""


def opened(disk: MemoryJournal) -> MemoryJournal:
    """The journal as a new process opens it: the same disk, nothing in hand. Two hosts may share one."""
    fresh = MemoryJournal()
    for name, value in vars(disk).items():
        if name not in OF_A_PROCESS:
            setattr(fresh, name, value)
    return fresh


def copy_of(journal: MemoryJournal) -> MemoryJournal:
    """A copy of a journal as it stands: what a durable one would have on its disk now."""
    copied = MemoryJournal()
    for name, value in vars(journal).items():
        if isinstance(value, dict | list | set):
            setattr(copied, name, value.copy())
    return copied


def put_back(journal: MemoryJournal, kept: Mapping[str, Any]) -> None:
    """Bring a journal's disk back to what was kept, in place: another host may have it open."""
    for name, value in vars(journal).items():
        if isinstance(value, dict | set):
            value.clear()
            value.update(kept[name])
        elif isinstance(value, list):
            value[:] = kept[name]


# --- one HTTP call -----------------------------------------------------------------------------------------------------


def suffer(host: Host, kind: Kind | None, service: str, carry_out: Callable[[], Response]) -> tuple[Response, bool]:
    """One call with its fault: whether the service carries it out, and what of the answer comes back."""
    if kind is Kind.CRASH_BEFORE:
        host.die()
    answer = carry_out() if kind is None or kind.is_done else None
    match kind:
        case None:
            assert answer is not None
            return answer, False
        case Kind.CRASH_AFTER:
            host.die()
        case Kind.TRUNCATED if answer is not None and len(answer.body) > 1:
            return answer, True
        case Kind.LOST_ANSWER | Kind.LOST_REQUEST | Kind.TRUNCATED:
            raise requests.exceptions.ReadTimeout("nothing came back")
    status = {Kind.THROTTLED: 429, Kind.PRECONDITION: 412}.get(kind, 500)
    return status_answer(service, SandboxFault("status", status=status)), False


def faults_of_a_write(host: Host, service: str, request: Request, *, may_make_logs: bool = False) -> list[str]:
    """What every write must carry: the ETag of a row that was read, or a durable intent (I1, I5, I11).

    ``may_make_logs``: the organisation makes no logs for parents, so the connector does, under ids of its own.
    """
    if service == "partner_center":
        asked, name = request.json().get("quantity"), request.header("ms-requestid")
        sending = [each for each in host.journal.open_intents() if each.state is IntentState.SENDING]
        if any(each.target == asked and each.request_id == name for each in sending):
            return []
        return [f"I11: {asked} seats are asked for without a durable intent"]
    if not request.path.endswith("$batch"):
        found = [] if request.method == "PATCH" else [f"I1: {request.method} {request.path}"]
        header = request.header("if-match") or ""
        return found if header.startswith("W/") else [*found, f"I5: {request.path} is written without an ETag"]
    parts = [part for part in batch_parts(request.body) if part[0] != "GET"]
    conditions = request.body.lower().count(b"if-match: w/")
    if may_make_logs:
        conditions += request.body.lower().count(b"if-none-match: *")
        parts = [part for part in parts if part[0] != "POST" or "licensechangelogs" not in part[1]]
    found = [f"I1: a batch makes or deletes rows: {parts}"] if any(method != "PATCH" for method, _ in parts) else []
    if conditions != len(parts):
        found.append("I5: a batch writes without the ETags of what was read")
    return found


# --- what is the same in all worlds ------------------------------------------------------------------------------------


@cache
def organisation() -> Kept:
    """The metadata of the sandbox's organisation, read once by a dry run of the connector itself."""
    sandbox = Sandbox(build_scenario({"name": "empty"}))
    kept = Kept()
    reader = Host(
        sandbox, "reader", lambda _host, service, request: (ask(sandbox, service, request), False), metadata=kept
    )
    try:
        result = reader.run_once(dry_run=True)
    finally:
        reader.close()
    assert result is not None and result.error is None, result
    return kept


def ask(sandbox: Sandbox, service: str, request: Request) -> Response:
    """The sandbox's answer; its own faults are not used here."""
    answer = sandbox.handle(service, request)
    assert isinstance(answer, Response)
    return answer


def config_of(name: str, policy: Policy, declared: tuple[tuple[str, str], ...] = ()) -> Config:
    """The configuration of a host; ``declared`` is what it is told of the organisation's Work 365.

    Its state directory is only a name: the journal is lent.
    """
    return _config(name, policy.model_dump_json(), declared if "work365" in Config.model_fields else ())


@cache
def _config(name: str, policy: str, declared: tuple[tuple[str, str], ...]) -> Config:
    return Config.model_validate(
        {
            "schema_version": 1,
            "dataverse": {"url": DATAVERSE},
            "partner_center": {"url": PARTNER_CENTER},
            "sign_in": {
                "tenant_id": "f0f0f0f0-0000-4000-8000-00000000c5b0",
                "client_id": "f0f0f0f0-0000-4000-8000-00000000c11d",
                "client_secret": "file:/nonexistent/secret",
                "partner_center": {"scope": f"{PARTNER_CENTER}/.default"},
            },
            "state": {"directory": f"/nonexistent/{name}"},
            "policy": Policy.model_validate_json(policy),
            **({"work365": dict(declared)} if declared else {}),
        }
    )


@cache
def _mapping() -> CrmMapping:
    return load_mapping("work365")


@cache
def _plugins() -> Mapping[str, ProviderPlugin]:
    return load_plugins(())


@cache
def _rules() -> Any:
    return rule_book()


def _half() -> float:
    return 0.5


def at_work(wrong: Wrong | None) -> AbstractContextManager[None]:
    """The wrong connector at work, if one is asked for."""
    return nullcontext() if wrong is None else wrong.at_work()
