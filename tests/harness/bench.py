"""Runs one scenario: passes of the real connector over an in-process transport, with faults and edits at given calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import requests

import connector.sync.run
from connector.crm.meanings import classify_dataverse, parse_dataverse_error
from connector.crm.metadata import OrgMetadata
from connector.crm.repository import DataverseCrm
from connector.domain.policy import Policy
from connector.domain.rules.builtin import BUILTIN
from connector.http.counter import RequestCounter
from connector.http.gate import RateGate
from connector.http.origin import Origin
from connector.http.session import make_session
from connector.http.transport import Transport
from connector.journal import MemoryJournal
from connector.mapping import CrmMapping, load_mapping
from connector.providers.plugin import RemoteService
from connector.providers.registry import connect_plugins, load_plugins
from connector.sandbox.app import Sandbox
from connector.sandbox.faults import Fault as SandboxFault
from connector.sandbox.faults import status_answer
from connector.sandbox.trace import batch_parts, is_write
from connector.sandbox.wire import Request, Response
from connector.sandbox.work365 import LOG, SUBSCRIPTION
from connector.sync.outcome import Progress
from connector.sync.ports import Fulfilment, IntentState, ProviderHandle, RunInfo
from connector.sync.run import Pass, RunOptions
from tests.harness.checkpoint import Checkpoint
from tests.harness.faults import Crash, Kind
from tests.harness.history import Event, History, ProviderCall, observe
from tests.harness.in_process import DATAVERSE, PARTNER_CENTER, InProcess, Tokens
from tests.harness.records import PassRecord, Position, Run, Tail, Trouble
from tests.harness.stories import Edit, Story

BETWEEN_PASSES = timedelta(minutes=10)
MOST_PASSES = 12


class Bench:
    """One story's world, its connector, and whatever goes wrong between them. Use it again and again with `run`."""

    history: History
    _calls: int
    _edited: bool
    _exchange_freely = False

    unit_of_work: Any = None
    """Another UnitOfWork for all passes, if a test wants to see it found out (see `wrong`)."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.sandbox = Sandbox(story.scenario)
        for step in story.scenario.steps:
            self.sandbox.perform(step)
        self._start = Checkpoint(self.sandbox)
        self._session = make_session()
        self._session.mount("https://", InProcess(self.exchange))
        self._session.trust_env = False
        self._answers: dict[tuple[object, ...], Response] = {}
        self._mark = ""
        self._tokens = {api: Tokens(self.sandbox, api) for api in ("dataverse", "partner_center")}
        self._memory: OrgMetadata | None = None
        self.passes = 0
        self._began = self.sandbox.clock.now()
        self._known: dict[tuple[object, ...], Tail] = {}
        self._reset(Trouble())

    def wrap(self, fulfilment: Fulfilment) -> Fulfilment:
        """For a wrong connector: another adapter in front of Partner Center."""
        return fulfilment

    # -- running ----------------------------------------------------------------------------------------------------

    def run(self, trouble: Trouble, *, rest: int = 3) -> Run:
        """Play one run: passes until nothing disturbs any more, and then until one writes nothing.

        At most ``rest`` undisturbed passes are made; the oracle says whether that was one too many. What follows from a
        world, a journal and the trouble that is still to come is worked out once and looked up from then on.
        """
        self._reset(trouble)
        records: list[PassRecord] = []
        marks: list[tuple[tuple[object, ...], Position]] = []
        undisturbed = 0
        while undisturbed < rest and len(records) < MOST_PASSES:
            if records:
                key = self._boundary(undisturbed)
                known = self._known.get(key)
                if known is not None:
                    records += self._follow(known)
                    break
                marks.append((key, Position.of(self, records)))
            record = self._pass(len(records) + 1)
            records.append(record)
            if record.disturbed or self._is_pending():
                undisturbed = 0
                if not record.disturbed and not record.writes and record.result is not None and len(records) > 3:
                    break  # what was to go wrong at a later call has no call to hit any more
            else:
                undisturbed += 1
                if record.writes == 0:
                    break
            self.sandbox.clock.set(self._began + BETWEEN_PASSES * len(records))
        for key, position in marks:
            self._known[key] = position.tail(self, records)
        return Run(trouble, self.history, tuple(records), self._edited)

    def forget(self) -> None:
        """Look nothing up any more that was worked out before."""
        self._known.clear()
        self._answers.clear()

    def _boundary(self, undisturbed: int) -> tuple[object, ...]:
        """All that the rest of a run depends on, between two passes."""
        if self._trouble.journal_lost:
            self._journal = MemoryJournal()
        self._mark = self._mark or self._world_mark()
        known = {key for key, _ in self.sandbox.partner_center._answered}
        intents = tuple(
            (each.before, each.target, each.state, each.attempts, each.request_id in known)
            for each in self._journal.open_intents()
        )
        deferred = tuple(each.until for each in self._journal.deferrals())
        coming = tuple(sorted((call - self._calls, kind) for call, kind in self._faults.items()))
        edit = None if self._edit is None else (self._edit.name, max(1, self._trouble.edit_at - self._calls))
        now = self.sandbox.clock.now()
        return (self._mark, now, intents, deferred, coming, edit, self._trouble.journal_lost, undisturbed)

    def _follow(self, known: Tail) -> list[PassRecord]:
        """Add what is known to follow to the history of this run."""
        moved = self._calls - known.calls
        self.history.events += [replace(event, call=event.call + moved) for event in known.events]
        self.history.provider_calls += [replace(call, call=call.call + moved) for call in known.provider_calls]
        self.history.complaints += known.complaints
        self._edited = self._edited or known.edited
        return [
            replace(record, first_call=record.first_call + moved, last_call=record.last_call + moved)
            for record in known.records
        ]

    def _reset(self, trouble: Trouble) -> None:
        self._start.restore()
        self._mark = ""
        self._trouble = trouble
        self._faults: dict[int, Kind] = {fault.call: fault.kind for fault in trouble.faults}
        self._edit = trouble.edit
        self._edited = False
        self._calls = 0
        self._writes = 0
        self._disturbed = False
        self._journal = MemoryJournal()
        self._state = observe(self.sandbox)
        self.history = History(self._state)

    def _is_pending(self) -> bool:
        return bool(self._faults) or self._edit is not None

    @property
    def calls(self) -> int:
        """HTTP calls of this run so far."""
        return self._calls

    @property
    def edited(self) -> bool:
        """Whether the edit was made."""
        return self._edited

    @property
    def edit_is_pending(self) -> bool:
        """Whether the edit is still to come."""
        return self._edit is not None

    def _pass(self, number: int) -> PassRecord:
        self.passes += 1
        first, self._writes, self._disturbed = self._calls + 1, 0, False
        if self._trouble.journal_lost:
            self._journal = MemoryJournal()
        run_id = f"{number:032d}"
        started = self.sandbox.clock.now()
        self._journal.begin_run(RunInfo(run_id, "operator@host", "run", started, "0"))
        self._journal.drop_leases(started, "host run ")
        module: Any = connector.sync.run
        ours = module.UnitOfWork
        try:
            module.UnitOfWork = self.unit_of_work or ours
            result = self._connector(run_id).run()
            self._journal.end_run(run_id, self.sandbox.clock.now(), int(result.exit_code), {})
        except Crash:
            result = None
            self._journal = self._at_death
        finally:
            module.UnitOfWork = ours
        return PassRecord(first, self._calls, result, self._writes, self._disturbed)

    def _connector(self, run_id: str) -> Pass:
        clock = self.sandbox.clock
        crm = DataverseCrm(
            Transport(
                service="dataverse",
                origin=Origin(f"{DATAVERSE}/api/data/v9.2/"),
                session=self._session,
                auth=self._tokens["dataverse"],
                gate=RateGate(clock),
                clock=clock,
                counter=RequestCounter(),
                parse_error=parse_dataverse_error,
                classify=classify_dataverse,
                jitter=lambda: 0.5,
            ),
            _mapping(),
            clock=clock,
            metadata_max_age=timedelta(days=3650),
        )
        if self._memory is None:
            self._exchange_freely = True
            self._memory = crm.metadata()
            self._exchange_freely = False
        crm._metadata = self._memory  # the same for all runs, and no part of a unit of work
        return Pass(
            run_id,
            f"host run {run_id}",
            crm,
            self._providers(),
            self._journal,
            clock,
            Policy(),
            BUILTIN,
            RunOptions(parallel=1),
            Progress(),
        )

    def _providers(self) -> Mapping[str, ProviderHandle]:
        handles = dict(connect_plugins(_plugins(), {"partner_center": {"base_url": PARTNER_CENTER}}, self))
        handle = handles["partner_center"]
        assert handle.fulfilment is not None
        handles["partner_center"] = ProviderHandle(
            handle.key, handle.title, handle.capabilities, self.wrap(handle.fulfilment)
        )
        return handles

    def clock(self) -> Any:
        """Time, for provider plug-ins."""
        return self.sandbox.clock

    def open_transport(self, service: RemoteService) -> Transport:
        """Requests of provider plug-ins."""
        clock = self.sandbox.clock
        return Transport(
            service=service.name,
            origin=Origin(service.base_url),
            session=self._session,
            auth=self._tokens["partner_center"],
            gate=RateGate(clock, requests_per_minute=service.requests_per_minute),
            clock=clock,
            counter=RequestCounter(),
            parse_error=service.parse_error,
            classify=service.classify,
            correlation_header=service.correlation_header,
            jitter=lambda: 0.5,
        )

    # -- one call ---------------------------------------------------------------------------------------------------

    def exchange(self, service: str, request: Request) -> tuple[Response, bool]:
        """One HTTP call: a person's edit first, then the call with its fault. The flag says that the body is cut."""
        if self._exchange_freely:
            return self._handle(service, request), False
        self._calls += 1
        if self._edit is not None and self._trouble.edit_at <= self._calls:
            self._let_edit(self._edit)
        kind = self._faults.pop(self._calls, None)
        if kind is not None:
            self._disturbed = True
        write = is_write(request)
        if write:
            self._inspect(service, request)
        if service == "partner_center":
            good = kind in (None, Kind.CRASH_AFTER)
            self.history.provider_calls.append(ProviderCall(self._calls, self.sandbox.clock.now(), write, good))
        if kind is Kind.CRASH_BEFORE:
            self._die()
        answer = None
        if kind is None or kind.is_done:
            answer = self._handle(service, request)
            if write:
                self._writes += 1
                self._note("connector", f"{request.method} {service}")
        return self._disturb(service, kind, request, answer)

    def _disturb(
        self, service: str, kind: Kind | None, request: Request, answer: Response | None
    ) -> tuple[Response, bool]:
        match kind:
            case None:
                assert answer is not None
                return answer, False
            case Kind.CRASH_AFTER:
                self._die()
            case Kind.TRUNCATED if answer is not None and len(answer.body) > 1:
                return answer, True
            case Kind.LOST_ANSWER | Kind.LOST_REQUEST | Kind.TRUNCATED:
                raise requests.exceptions.ReadTimeout("nothing came back")
            case Kind.THROTTLED:
                return status_answer(service, SandboxFault("status", status=429)), False
            case Kind.PRECONDITION:
                return status_answer(service, SandboxFault("status", status=412)), False
        return status_answer(service, SandboxFault("status", status=500)), False

    def _handle(self, service: str, request: Request) -> Response:
        """The sandbox's answer. One to a read is kept for the next time that the same world is asked the same.

        The mark of a world is all of its rows; an answer of the provider also depends on the time.
        """
        if is_write(request):
            self._mark = ""
            return self._ask(service, request)
        boundary = request.body[: request.body.find(b"\r\n")] if request.body else b""
        body = request.body.replace(boundary[2:], b"") if boundary else b""
        time = self.sandbox.clock.now() if service == "partner_center" else None
        self._mark = self._mark or self._world_mark()
        key = (service, request.method, request.path, request.query, body, time, self._mark)
        if key not in self._answers:
            self._answers[key] = self._ask(service, request)
        return self._answers[key]

    def _ask(self, service: str, request: Request) -> Response:
        answer = self.sandbox.handle(service, request)
        assert isinstance(answer, Response)
        return answer

    def _world_mark(self) -> str:
        rows = [[sorted(row.items()) for row in self.sandbox.store.rows(table)] for table in (SUBSCRIPTION, LOG)]
        return repr((rows, self.sandbox.partner_center.subscriptions))

    def _die(self) -> None:
        # Whatever `finally` does on the way out, a process that is killed does not do.
        self._at_death = frozen(self._journal)
        raise Crash

    def _let_edit(self, edit: Edit) -> None:
        self._edit = None
        if edit.needs_log is not None and not self.sandbox.world.logs_of(edit.needs_log):
            return
        self._edited = self._disturbed = True
        self.sandbox.perform(edit.step)
        self._mark = ""
        self._note("person", edit.name)

    def _note(self, actor: Any, what: str) -> None:
        after = observe(self.sandbox)
        self.history.events.append(Event(actor, what, self._calls, self.sandbox.clock.now(), self._state, after))
        self._state = after

    def _inspect(self, service: str, request: Request) -> None:
        """What every write must carry: the ETag of a row that was read, or a durable intent (I5, I11)."""
        if service == "dataverse":
            self._inspect_crm(request)
            return
        asked = request.json().get("quantity")
        sending = [
            intent
            for intent in self._journal.open_intents()
            if intent.state is IntentState.SENDING and intent.request_id == request.header("ms-requestid")
        ]
        if not any(intent.target == asked for intent in sending):
            self.history.complaints.append(f"I11: call {self._calls} asks for {asked} seats without a durable intent")

    def _inspect_crm(self, request: Request) -> None:
        for method, target in batch_parts(request.body) if request.path.endswith("$batch") else [(request.method, "")]:
            if method != "PATCH":
                self.history.complaints.append(f"I1: call {self._calls} is a {method} {target}")
        conditions = request.body.lower().count(b"if-match: w/") if request.path.endswith("$batch") else 0
        wanted = sum(1 for _ in batch_parts(request.body)) if request.path.endswith("$batch") else 0
        header = request.header("if-match") or ""
        if conditions != wanted or (not wanted and not header.startswith("W/")):
            self.history.complaints.append(f"I5: call {self._calls} writes without the ETag of what was read")


def frozen(journal: MemoryJournal) -> MemoryJournal:
    """A copy of a journal as it stands: what a durable one would have on its disk now."""
    copied = MemoryJournal()
    for name, value in vars(journal).items():
        if isinstance(value, dict | list | set):
            setattr(copied, name, value.copy())
    return copied


@cache
def _mapping() -> CrmMapping:
    return load_mapping("work365")


@cache
def _plugins() -> Mapping[str, Any]:
    return load_plugins(())
