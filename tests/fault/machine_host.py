"""The hosts of the state machine: each runs the real connector with its own journal and clock, and is disturbed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NoReturn

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
from connector.sync.outcome import Progress, RunResult
from connector.sync.ports import IntentState, RunInfo
from connector.sync.run import Pass, RunOptions
from tests.fault.machine_world import MachineWorld, Watched
from tests.harness.bench import frozen
from tests.harness.faults import Crash, Kind
from tests.harness.in_process import DATAVERSE, PARTNER_CENTER, InProcess, Tokens


class ConnectorClock:
    """The clock of the machine that a connector runs on: it may be wrong. Waiting takes the world's time."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._clock = sandbox.clock
        self.skew = timedelta()

    def now(self) -> datetime:
        return self._clock.now() + self.skew

    def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)


@dataclass(slots=True)
class Happening:
    """What happens at one HTTP call of a pass: first what others do meanwhile, then the fault of the call itself."""

    meanwhile: list[Callable[[], None]] = field(default_factory=list)
    fault: Kind | None = None
    unauthorized: bool = False


Plan = Mapping[int, Happening]
"""Call of the pass, counted from 1 → what happens there; −1 is the first call that writes, −2 the second."""


class Scheduler:
    """A host that runs the connector, with its own journal, clock and session."""

    metadata: OrgMetadata | None = None

    def __init__(self, world: MachineWorld, name: str, policy: Policy, unit_of_work: Any = None) -> None:
        self.world = world
        self.name = name
        self.journal = MemoryJournal()
        self.clock_of_host = ConnectorClock(world.sandbox)
        self._policy = policy
        self._unit_of_work = unit_of_work
        self._session = make_session()
        self._session.mount("https://", InProcess(self.exchange))
        self._session.trust_env = False
        self._tokens = {api: Tokens(world.sandbox, api) for api in ("dataverse", "partner_center")}
        self._plan: dict[int, Happening] = {}
        self._call = self._write_call = self._runs = 0
        self._free = False
        self._dry = False
        self._seen: tuple[str, int] | None = None
        self.writes = 0

    def forget(self) -> None:
        """The journal vanishes."""
        self.journal = MemoryJournal()

    def close(self) -> None:
        self._session.close()

    def run(self, plan: Plan | None = None, *, dry_run: bool = False) -> RunResult | None:
        """One pass; None if the process died in it. ``writes`` says how many writes took effect."""
        self._plan, self._dry, self._seen = dict(plan or {}), dry_run, None
        self._call = self._write_call = self.writes = 0
        self._runs += 1
        run_id = f"{self.name}{self._runs:08d}".rjust(32, "0")
        started = self.clock_of_host.now()
        self.journal.begin_run(RunInfo(run_id, f"operator@{self.name}", "run", started, "0"))
        self.journal.drop_leases(started, f"{self.name} run ")
        module: Any = connector.sync.run
        ours = module.UnitOfWork
        try:
            module.UnitOfWork = self._unit_of_work or ours
            result = self._pass(run_id, dry_run).run()
            self.journal.end_run(run_id, self.clock_of_host.now(), int(result.exit_code), {})
        except Crash:
            self.journal = self._at_death
            return None
        finally:
            module.UnitOfWork = ours
        return result

    def _pass(self, run_id: str, dry_run: bool) -> Pass:
        clock = self.clock_of_host
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
        if Scheduler.metadata is None:
            self._free = True
            Scheduler.metadata = crm.metadata()
            self._free = False
        crm._metadata = Scheduler.metadata  # the same in all worlds, and no part of a unit of work
        providers = connect_plugins(_plugins(), {"partner_center": {"base_url": PARTNER_CENTER}}, self)
        return Pass(
            run_id,
            f"{self.name} run {run_id}",
            crm,
            providers,
            self.journal,
            clock,
            self._policy,
            BUILTIN,
            RunOptions(parallel=1, dry_run=dry_run),
            Progress(),
        )

    def clock(self) -> Any:
        """Time, for provider plug-ins."""
        return self.clock_of_host

    def open_transport(self, service: RemoteService) -> Transport:
        """Requests of provider plug-ins."""
        clock = self.clock_of_host
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
        """One HTTP call, with what happens there. The flag says that the body is cut."""
        if self._free:
            return self._ask(service, request), False
        self._call += 1
        self.world.calls += 1
        write = is_write(request)
        self._write_call += write
        here = [self._plan.pop(self._call, None), self._plan.pop(-self._write_call, None) if write else None]
        happening = next((each for each in here if each is not None), Happening())
        for other in happening.meanwhile:
            other()
        self.world.note("person", "time")
        fault = happening.fault
        if write:
            self._inspect(service, request)
        if fault is Kind.CRASH_BEFORE:
            self._die()
        if happening.unauthorized:
            return status_answer(service, SandboxFault("status", status=401)), False
        answer = None
        if fault is None or fault.is_done:
            answer = self._carry_out(service, request, write)
        if service == "partner_center":
            self._remember_what_was_seen(request, write, answered=fault is None)
        return self._answer(service, fault, answer)

    def _carry_out(self, service: str, request: Request, write: bool) -> Response:
        target = self._target(request) if service == "partner_center" and write else None
        if target is not None and self._seen is not None:
            subscription, quantity = self._seen
            if subscription == target.subscription and quantity != target.state.provider:
                target.collided = True
        answer = self._ask(service, request)
        if write and self.world.note("connector", f"{self.name}: {request.method} {service}"):
            self.writes += 1
        return answer

    def _remember_what_was_seen(self, request: Request, write: bool, *, answered: bool) -> None:
        """A write to the provider is fenced only by the read that is the very call before it."""
        target = self._target(request)
        self._seen = None
        if target is not None and not write and answered and target.subscription is not None:
            self._seen = (target.subscription, target.state.provider)

    def _target(self, request: Request) -> Watched | None:
        return next((each for each in self.world.watched if request.path.endswith(str(each.subscription))), None)

    def _ask(self, service: str, request: Request) -> Response:
        answer = self.world.sandbox.handle(service, request)
        assert isinstance(answer, Response)
        return answer

    def _answer(self, service: str, fault: Kind | None, answer: Response | None) -> tuple[Response, bool]:
        match fault:
            case None:
                assert answer is not None
                return answer, False
            case Kind.CRASH_AFTER:
                self._die()
            case Kind.TRUNCATED if answer is not None and len(answer.body) > 1:
                return answer, True
            case Kind.LOST_ANSWER | Kind.LOST_REQUEST | Kind.TRUNCATED:
                raise requests.exceptions.ReadTimeout("nothing came back")
        status = {Kind.THROTTLED: 429, Kind.PRECONDITION: 412}.get(fault, 500)
        return status_answer(service, SandboxFault("status", status=status)), False

    def _die(self) -> NoReturn:
        # Whatever `finally` does on the way out, a process that is killed does not do.
        self._at_death = frozen(self.journal)
        raise Crash

    def _inspect(self, service: str, request: Request) -> None:
        """What every write must carry: the ETag of a row that was read, or a durable intent (I5, I6, I11)."""
        complain = self.world.complaints.append
        if self._dry:
            complain(f"I6: a dry run sent {request.method} {request.path}")
        if service != "dataverse":
            sending = [each for each in self.journal.open_intents() if each.state is IntentState.SENDING]
            asked, name = request.json().get("quantity"), request.header("ms-requestid")
            if not any(each.target == asked and each.request_id == name for each in sending):
                complain(f"I11: {asked} seats were asked for without a durable intent")
            return
        if request.path.endswith("$batch"):
            parts = list(batch_parts(request.body))
            if any(method != "PATCH" for method, _ in parts):
                complain(f"I1: {parts} makes or deletes rows")
            if request.body.lower().count(b"if-match: w/") != len(parts):
                complain("I5: a batch writes without the ETags of what was read")
        elif request.method != "PATCH":
            complain(f"I1: {request.method} {request.path}")
        elif not (request.header("if-match") or "").startswith("W/"):
            complain(f"I5: {request.path} is written without the ETag of what was read")


@cache
def _mapping() -> CrmMapping:
    return load_mapping("work365")


@cache
def _plugins() -> Mapping[str, Any]:
    return load_plugins(())
