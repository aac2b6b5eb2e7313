"""The sandbox as one thing: three services over one world, a clock, faults, and a trace of what clients did."""

from __future__ import annotations

import copy
import secrets
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from connector.sandbox.actions import Actions
from connector.sandbox.clock import SandboxClock, wire_instant
from connector.sandbox.dataverse.context import DataverseOptions
from connector.sandbox.dataverse.service import DataverseService
from connector.sandbox.deaths import Watch
from connector.sandbox.deliveries import USUAL_DELAY, Deliveries, Delivery
from connector.sandbox.engine import Engine
from connector.sandbox.expectations import Writes, describe_subscription
from connector.sandbox.faults import Dropped, Fault, FaultBook, status_answer
from connector.sandbox.grammar import Scenario, Step, Work365Spec
from connector.sandbox.habits import LATE_BY, USUAL, Habits
from connector.sandbox.notation import Effect
from connector.sandbox.partner_center.service import PartnerCenterService, Replay
from connector.sandbox.scenario import load_scenario
from connector.sandbox.schema import Schema
from connector.sandbox.sign_in import SignInService
from connector.sandbox.store import Store
from connector.sandbox.trace import Trace, applied_writes, is_write
from connector.sandbox.wire import Request, Response, Service
from connector.sandbox.work365 import MARKER, SUBSCRIPTION, Work365
from connector.sandbox.world import World

TENANT = "f0f0f0f0-0000-4000-8000-00000000c5b0"
CLIENT_ID = "f0f0f0f0-0000-4000-8000-00000000c11d"
UNANSWERED_AFTER = 0.2
"""Real seconds until a connection without an answer is closed: long enough to be seen, too short to wait for."""


_NOBODY_SEES = Response(503)


class Sandbox:
    """One world and everything that can be asked of it. Thread-safe.

    ``clock``, ``trace``, ``faults``, ``sign_in``, ``store``, ``work365``, ``partner_center``, ``dataverse`` and
    ``world`` are there to be used by tests and by whoever serves the sandbox.
    """

    def __init__(self, scenario: Scenario, *, dataverse_options: DataverseOptions | None = None) -> None:
        self.scenario = scenario
        self.clock = SandboxClock(scenario.clock)
        self.trace = Trace()
        now = self.clock.now
        self.faults = FaultBook(now)
        self.watch: Watch | None = None
        """What is set while a client's process is to die at a certain moment."""
        self.deliveries = Deliveries(self._deliver)
        self.sign_in = SignInService(
            now, tenant=TENANT, client_id=CLIENT_ID, client_secret=f"sandbox-{secrets.token_urlsafe(24)}"
        )
        if scenario.access.dataverse is not None:
            named = {"no_privilege": "no_privilege:prvReadwork365_Subscription"}
            self.sign_in.refusals["dataverse"] = named.get(scenario.access.dataverse, scenario.access.dataverse)
        if scenario.access.partner_center is not None:
            self.sign_in.refusals["partner_center"] = scenario.access.partner_center
        schema = copy.deepcopy(_schema())
        if scenario.work365 is not None and scenario.work365.marker_column:
            schema.add_column(SUBSCRIPTION, MARKER, {"type": "String", "max_length": 4000})
        self.store = Store(schema, now)
        self.work365 = Work365(self.store, now, _habits(scenario.work365))
        self.partner_center = PartnerCenterService(
            now,
            lambda header: self.sign_in.authorize("partner_center", header),
            renewal_takes=scenario.renewal_takes,
            accept_only=scenario.accept_only,
        )
        self.dataverse = DataverseService(
            self.store,
            now=now,
            authorize=lambda header: self.sign_in.authorize("dataverse", header),
            options=dataverse_options or DataverseOptions(),
        )
        self.world = World(scenario, self.store, self.partner_center, self.work365)
        self.work365.install()
        self.clock.observe(self.partner_center)
        self.clock.observe(self.work365)
        self.clock.observe(self.deliveries)
        self._actions = Actions(self.world, self.clock, self.faults)
        self._engine = Engine(self.store, self.work365, self.partner_center, now) if scenario.engine else None
        self._services: dict[str, Service] = {
            "dataverse": self.dataverse,
            "partner_center": self.partner_center,
            "sign_in": self.sign_in,
        }

    @classmethod
    def from_scenario(
        cls, scenario: Scenario | Path | str, *, dataverse_options: DataverseOptions | None = None
    ) -> Sandbox:
        """A sandbox with the world of a scenario, given as such or as a file. Raises ScenarioError."""
        if not isinstance(scenario, Scenario):
            scenario = load_scenario(scenario)
        return cls(scenario, dataverse_options=dataverse_options)

    def handle(self, service: str, request: Request) -> Response | Dropped:
        """Answer a request to one of the services, faults included, and keep it in the trace. Raises KeyError.

        While a watch is set, whoever set it looks after each call whether it has tripped: then the client is dead, and
        what is returned is for nobody.
        """
        if self.watch is not None:
            return self._watched(self.watch, service, request)
        return self._answered(service, request)

    def watch_for(self, effect: Effect | None = None, *, batch_items: int | None = None) -> Watch:
        """Watch the calls from now on for the moment at which a scenario lets the process die; sets :attr:`watch`."""
        self.watch = Watch(self.store, self.partner_center, effect, batch_items=batch_items)
        return self.watch

    def _watched(self, watch: Watch, service: str, request: Request) -> Response | Dropped:
        with watch.calls:
            if watch.cuts(service, request):
                with self.dataverse.first_items(watch.batch_items):
                    response = self._ask(service, request)
                watch.tripped = True
                self._record(service, request, response, None, None, cut=True)
                return _NOBODY_SEES
            if watch.tripped or not is_write(request):
                return self._answered(service, request)
            watch.begins()
            answer = self._answered(service, request)
            watch.ends()
            return _NOBODY_SEES if watch.tripped and isinstance(answer, Dropped) else answer

    def _answered(self, service: str, request: Request) -> Response | Dropped:
        fault = self.faults.take(service, request)
        if fault is None:
            response = self._ask(service, request)
            self._record(service, request, response, response.status, None)
            return response
        return self._disturbed(service, request, fault)

    def _disturbed(self, service: str, request: Request, fault: Fault) -> Response | Dropped:
        if fault.kind in ("lost_request", "late"):
            self._record(service, request, None, None, fault)
            if fault.kind == "late":
                self._put_off(service, request, fault.after or USUAL_DELAY)
            return Dropped()
        if fault.kind == "status" and not fault.applied:
            answer = status_answer(service, fault)
            self._record(service, request, None, answer.status, fault)
            return answer
        if fault.kind == "slow" and fault.seconds is not None:
            self.clock.sleep(fault.seconds)
        response = self._ask(service, request)
        if fault.kind == "status":
            answer = status_answer(service, fault)
            self._record(service, request, response, answer.status, fault)
            return answer
        if fault.kind == "slow" and fault.seconds is not None:
            self._record(service, request, response, response.status, fault)
            return response
        if fault.kind == "replayed":
            self._record(service, request, response, response.status, fault)
            self._record(service, request, self._ask(service, request), None, fault)
            return response
        self._record(service, request, response, None, fault)
        if fault.kind == "truncated" and len(response.body) > 1:
            return Dropped(partial=response)
        return Dropped(after=UNANSWERED_AFTER if fault.kind == "slow" else 0.0)

    def _put_off(self, service: str, request: Request, after: timedelta) -> None:
        signed_in = self.sign_in.authorize(service, request.header("authorization")) == "ok"
        self.deliveries.put_off(Delivery(self.clock.now() + after, service, request, signed_in))

    def _deliver(self, delivery: Delivery) -> None:
        """A late request arrives. A token that was good when it was sent counts as good: a fresh one takes its place."""
        service, request = delivery.service, delivery.request
        if delivery.signed_in:
            token = f"Bearer {self.sign_in.issue(service)}"
            request = replace(request, headers={**request.headers, "authorization": token})
        self._record(service, request, self._ask(service, request), None, Fault("late"))

    def _ask(self, service: str, request: Request) -> Response:
        if service == "dataverse" and self.work365.habits is not USUAL:
            with self.work365.by_api():
                return self.dataverse.handle(request)
        return self._services[service].handle(request)

    def perform(self, step: Step) -> None:
        """Do what people or time do. Raises ActionError, or PluginError when the CRM refuses."""
        self._actions.perform(step)
        self._after_a_change()

    def writes(self) -> Writes:
        """Writes of clients that took effect since the world began; replays and refusals do not count."""
        return Writes(
            provider=self.partner_center.accepted_writes,
            crm=self.trace.applied("dataverse"),
            crm_requests=self.trace.write_requests("dataverse"),
        )

    def describe(self) -> dict[str, Any]:
        """The world in plain values, for people: every subscription with its logs and what the provider has."""
        return {
            "scenario": self.scenario.name,
            "clock": wire_instant(self.clock.now()),
            "writes": {"provider": self.writes().provider, "crm": self.writes().crm},
            "faults": len(self.faults.pending()),
            "subscriptions": {
                self.world.alias_of(row[f"{SUBSCRIPTION}id"]): describe_subscription(self.world, row)
                for row in self.store.rows(SUBSCRIPTION)
            },
        }

    def _record(
        self,
        service: str,
        request: Request,
        response: Response | None,
        status: int | None,
        fault: Fault | None,
        *,
        cut: bool = False,
    ) -> None:
        applied = 0
        if response is not None and service == "dataverse":
            applied = applied_writes(request, response, cut=cut)
        elif response is not None and service == "partner_center":
            accepted = is_write(request) and 200 <= response.status < 300 and not isinstance(response, Replay)
            applied = int(accepted)
        self.trace.record(
            at=wire_instant(self.clock.now()),
            service=service,
            request=request,
            status=status,
            applied=applied,
            fault=None if fault is None else fault.kind,
        )
        if applied and service == "dataverse":
            self._after_a_change()

    def _after_a_change(self) -> None:
        if self._engine is not None:
            self._engine.work()


def _habits(spec: Work365Spec | None) -> Habits:
    if spec is None:
        return USUAL
    habits = Habits(spec.parent_log, spec.late_by or LATE_BY, spec.pushes, spec.copies_order_reference)
    return USUAL if habits == USUAL else habits


@cache
def _schema() -> Schema:
    """Read once per process; every sandbox gets a copy, since a test may rename a column in its own."""
    return Schema.load()
