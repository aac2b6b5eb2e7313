"""Runs one scenario: passes of the real connector over an in-process transport, with faults and edits at given calls."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar

from connector.sandbox.app import Sandbox
from connector.sandbox.trace import is_write
from connector.sandbox.wire import Request, Response
from connector.sandbox.work365 import LOG, SUBSCRIPTION
from tests.harness.checkpoint import Checkpoint
from tests.harness.faults import Kind
from tests.harness.history import Event, History, ProviderCall, observe
from tests.harness.records import PassRecord, Position, Run, Tail, Trouble
from tests.harness.stories import Edit, Story
from tests.support.rig import Host, Wrong, ask, at_work, faults_of_a_write, suffer

BETWEEN_PASSES = timedelta(minutes=10)
MOST_PASSES = 12


class Bench:
    """One story's world, its connector, and whatever goes wrong between them. Use it again and again with `run`."""

    history: History
    _calls: int
    _edited: bool

    wrong: ClassVar[Wrong | None] = None
    """Another connector for all passes, if a test wants to see it found out."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.sandbox = Sandbox(story.scenario)
        for step in story.scenario.steps:
            self.sandbox.perform(step)
        self._start = Checkpoint(self.sandbox)
        self._host = Host(self.sandbox, "host", self._exchange, wrong=self.wrong)
        self._answers: dict[tuple[object, ...], Response] = {}
        self._mark = ""
        self.passes = 0
        self._began = self.sandbox.clock.now()
        self._known: dict[tuple[object, ...], Tail] = {}
        self._reset(Trouble())

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
            record = self._pass()
            records.append(record)
            if record.disturbed or self._is_pending():
                undisturbed = 0
                if not record.disturbed and not record.writes and record.result is not None and len(records) > 3:
                    break  # what was to go wrong at a later call has no call to hit any more
            else:
                undisturbed += 1
                if record.writes == 0:
                    break
            self.sandbox.clock.set(max(self.sandbox.clock.now(), self._began + BETWEEN_PASSES * len(records)))
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
            self._host.forget()
        self._mark = self._mark or self._world_mark()
        known = {key for key, _ in self.sandbox.partner_center._answered}
        intents = tuple(
            (each.before, each.target, each.state, each.attempts, each.request_id in known)
            for each in self._host.journal.open_intents()
        )
        deferred = tuple(each.until for each in self._host.journal.deferrals())
        coming = tuple(sorted((call - self._calls, kind) for call, kind in self._faults.items()))
        edit = None if self._edit is None else (self._edit.name, max(1, self._trouble.edit_at - self._calls))
        now = self.sandbox.clock.now()
        kept = tuple(sorted(self._host.journal.cached().items()))
        return (self._mark, now, intents, deferred, kept, coming, edit, self._trouble.journal_lost, undisturbed)

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
        self._host.forget()
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

    def _pass(self) -> PassRecord:
        self.passes += 1
        first, self._writes, self._disturbed = self._calls + 1, 0, False
        if self._trouble.journal_lost:
            self._host.forget()
        with at_work(self.wrong):
            result = self._host.run_once()
        return PassRecord(first, self._calls, result, self._writes, self._disturbed)

    # -- one call ---------------------------------------------------------------------------------------------------

    def _exchange(self, host: Host, service: str, request: Request) -> tuple[Response, bool]:
        """One HTTP call: a person's edit first, then the call with its fault. The flag says that the body is cut."""
        self._calls += 1
        if self._edit is not None and self._trouble.edit_at <= self._calls:
            self._let_edit(self._edit)
        kind = self._faults.pop(self._calls, None)
        if kind is not None:
            self._disturbed = True
        write = is_write(request)
        if write:
            found = faults_of_a_write(host, service, request)
            self.history.complaints += [f"{text} (call {self._calls})" for text in found]
        if service == "partner_center":
            good = kind in (None, Kind.CRASH_AFTER)
            self.history.provider_calls.append(ProviderCall(self._calls, self.sandbox.clock.now(), write, good))
        return suffer(host, kind, service, lambda: self._carry_out(service, request, write))

    def _carry_out(self, service: str, request: Request, write: bool) -> Response:
        answer = self._handle(service, request)
        if write:
            self._writes += 1
            self._note("connector", f"{request.method} {service}")
        return answer

    def _handle(self, service: str, request: Request) -> Response:
        """The sandbox's answer. One to a read is kept for the next time that the same world is asked the same.

        The mark of a world is all of its rows; an answer of the provider also depends on the time.
        """
        if is_write(request):
            self._mark = ""
            return ask(self.sandbox, service, request)
        boundary = request.body[: request.body.find(b"\r\n")] if request.body else b""
        body = request.body.replace(boundary[2:], b"") if boundary else b""
        time = self.sandbox.clock.now() if service == "partner_center" else None
        self._mark = self._mark or self._world_mark()
        key = (service, request.method, request.path, request.query, body, time, self._mark)
        if key not in self._answers:
            self._answers[key] = ask(self.sandbox, service, request)
        return self._answers[key]

    def _world_mark(self) -> str:
        rows = [[sorted(row.items()) for row in self.sandbox.store.rows(table)] for table in (SUBSCRIPTION, LOG)]
        return repr((rows, self.sandbox.partner_center.subscriptions))

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
