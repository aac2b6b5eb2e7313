"""The hosts of the state machine: each runs the real connector with its own journal and clock, and is disturbed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from connector.domain.policy import Policy
from connector.sandbox.faults import Fault as SandboxFault
from connector.sandbox.faults import status_answer
from connector.sandbox.trace import is_write
from connector.sandbox.wire import Request, Response
from connector.sync.outcome import RunResult
from tests.fault.machine_world import MachineWorld, Watched
from tests.harness.faults import Kind
from tests.support.rig import Host, Wrong, ask, at_work, faults_of_a_write, suffer


@dataclass(slots=True)
class Happening:
    """What happens at one HTTP call of a pass: first what others do meanwhile, then the fault of the call itself."""

    meanwhile: list[Callable[[], None]] = field(default_factory=list)
    fault: Kind | None = None
    unauthorized: bool = False


Plan = Mapping[int, Happening]
"""Call of the pass, counted from 1 → what happens there; −1 is the first call that writes, −2 the second."""


class Scheduler(Host):
    """A host on which a plan of what goes wrong is played."""

    def __init__(self, world: MachineWorld, name: str, policy: Policy, wrong: Wrong | None = None) -> None:
        super().__init__(world.sandbox, name, lambda _host, *call: self._exchange(*call), policy=policy, wrong=wrong)
        self.world = world
        self._plan: dict[int, Happening] = {}
        self._call = self._write_call = 0
        self._dry = False
        self._seen: tuple[str, int] | None = None
        self.writes = 0

    def run(self, plan: Plan | None = None, *, dry_run: bool = False) -> RunResult | None:
        """One pass; None if the process died in it. ``writes`` says how many writes took effect."""
        self._plan, self._dry, self._seen = dict(plan or {}), dry_run, None
        self._call = self._write_call = self.writes = 0
        with at_work(self.wrong):
            return self.run_once(dry_run=dry_run)

    # -- one call ---------------------------------------------------------------------------------------------------

    def _exchange(self, service: str, request: Request) -> tuple[Response, bool]:
        """One HTTP call, with what happens there. The flag says that the body is cut."""
        self._call += 1
        self.world.calls += 1
        write = is_write(request)
        self._write_call += write
        here = [self._plan.pop(self._call, None), self._plan.pop(-self._write_call, None) if write else None]
        happening = next((each for each in here if each is not None), Happening())
        for other in happening.meanwhile:
            other()
        self.world.note("person", "time")
        if write:
            self.world.complaints += faults_of_a_write(self, service, request)
            if self._dry:
                self.world.complaints.append(f"I6: a dry run sent {request.method} {request.path}")
        if happening.unauthorized:
            return status_answer(service, SandboxFault("status", status=401)), False
        try:
            return suffer(self, happening.fault, service, lambda: self._carry_out(service, request, write))
        finally:
            if service == "partner_center":
                self._remember_what_was_seen(request, write, answered=happening.fault is None)

    def _carry_out(self, service: str, request: Request, write: bool) -> Response:
        target = self._target(request) if service == "partner_center" and write else None
        if target is not None and self._seen is not None:
            subscription, quantity = self._seen
            if subscription == target.subscription and quantity != target.state.provider:
                target.collided = True
        answer = ask(self.world.sandbox, service, request)
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
