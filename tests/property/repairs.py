"""People who do literally what a hold tells them: an interpreter of the remedies, and worlds in which people did harm."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from connector.domain.decide import decide
from connector.domain.decision import Objection
from connector.domain.model import (
    LicenseChangeLog,
    ParentLog,
    ProviderSubscription,
    ProvisioningStatus,
    Snapshot,
    SubscriptionId,
)
from connector.domain.plan import FamilyDecision
from connector.domain.policy import Policy
from connector.domain.rounds import simulate
from connector.domain.rules.builtin import BUILTIN
from connector.domain.rules.registry import Environment
from connector.domain.seats import balance
from tests.families import AWAITING, FAILED, NOT_APPLICABLE, NOW, PROVISIONED, log
from tests.property.worlds import (
    Picker,
    arrive,
    chance,
    child_logs,
    choice,
    provider_quantity,
    sound,
    step,
    with_parent,
    with_status,
)

FAMILY_WIDE = {"LS-005", "LS-015", "LS-035", "LS-049", "LS-058", "LS-070", "LS-072"}
MOST_REPAIRS = 24
_LOG = r"[\w+-]+"


@dataclass
class Office:
    """One family, the people who look after it, and the runs of linksub between their deeds."""

    pick: Picker
    snapshot: Snapshot
    env: Environment
    made: int = 0

    def decide(self) -> FamilyDecision:
        return decide(self.snapshot, self.env, BUILTIN)

    # --- what a CRM does when a person edits ---------------------------------------------------------------------------

    def new_log(self, owner: str, seats: int, status: ProvisioningStatus = AWAITING) -> LicenseChangeLog:
        self.made += 1
        newest = max([NOW, *(entry.created_on for entry in self.snapshot.logs)])
        entry = replace(log(owner, seats, name=f"edit-{self.made}", status=status), created_on=newest)
        return replace(entry, created_on=newest + timedelta(seconds=1))

    def edit_parent(self, quantity: int, status: ProvisioningStatus = AWAITING) -> None:
        parent = self.snapshot.parent
        assert parent is not None and parent.quantity is not None
        seats = quantity - parent.quantity
        self.snapshot = with_parent(self.snapshot, quantity=quantity, modified_on=self.env.now)
        if seats:
            self.snapshot = replace(self.snapshot, logs=(*self.snapshot.logs, self.new_log("parent", seats, status)))

    def edit_child(self, child: SubscriptionId, seats: int, status: ProvisioningStatus) -> None:
        children = tuple(
            replace(row, quantity=(row.quantity or 0) + seats) if row.id == child else row
            for row in self.snapshot.children
        )
        made = self.new_log(child, seats, status)
        self.snapshot = replace(self.snapshot, children=children, logs=(*self.snapshot.logs, made))

    def set_status(self, ids: set[str], status: ProvisioningStatus) -> None:
        assert ids <= {entry.id for entry in self.snapshot.logs}, f"a remedy names logs that are not there: {ids}"
        self.snapshot = with_status(self.snapshot, ids, status)

    def own(self, *statuses: ProvisioningStatus) -> list[LicenseChangeLog]:
        return [log for log in self.snapshot.logs_of(SubscriptionId("parent")) if log.status in statuses]

    # --- runs ----------------------------------------------------------------------------------------------------------

    def run(self) -> FamilyDecision:
        """linksub runs until nothing is left to do; at a manual parent a person then confirms what is open."""
        for _ in range(64):
            found = self.decide()
            if found.actions:
                self.snapshot = simulate(self.snapshot, found, self.env)
            elif found.stop is None and self.is_manual and self.own(AWAITING):
                self.set_status({entry.id for entry in self.own(AWAITING)}, PROVISIONED)
            else:
                return found
        raise AssertionError("it never comes to rest")

    @property
    def is_manual(self) -> bool:
        return self.env.capabilities is not None and not self.env.capabilities.automatic

    # --- remedies ------------------------------------------------------------------------------------------------------

    def repair(self, stop: Objection) -> None:
        """What the remedy of a hold says, literally."""
        for pattern, deed in REMEDIES[stop.rule]:
            found = re.search(pattern, stop.remedy)
            if found is not None:
                deed(self, stop, found)
                return
        raise AssertionError(f"nobody can do literally what {stop.rule} says: {stop.remedy!r}")


def _logs(text: str) -> set[str]:
    return set(re.findall(_LOG, text))


def _back_to_awaiting(office: Office, stop: Objection, found: re.Match[str]) -> None:
    office.set_status({found["log"]}, AWAITING)


def _failed_log_to_awaiting(office: Office, stop: Objection, found: re.Match[str]) -> None:
    named = re.search(rf"parent LCL (?P<log>{_LOG}) failed", stop.reason)
    assert named is not None
    office.set_status({named["log"]}, AWAITING)


def _log_comes(office: Office, stop: Objection, found: re.Match[str]) -> None:
    """The CRM makes the logs that it owes."""
    books = balance(office.snapshot, parent_log=office.env.parent_log, pushes=office.env.pushes)
    for one in books.without_log:
        made = office.new_log("parent", one.group.delta)
        office.snapshot = replace(office.snapshot, logs=(*office.snapshot.logs, made))


def _plug_ins_run_or_none_is_declared(office: Office, stop: Objection, found: re.Match[str]) -> None:
    if chance(office.pick, 50):
        _log_comes(office, stop, found)
    else:
        office.env = replace(office.env, parent_log=ParentLog.NONE)


def _create_is_set(office: Office, stop: Objection, found: re.Match[str]) -> None:
    office.env = replace(office.env, policy=office.env.policy.model_copy(update={"parent_log": "create"}))


def _one_child_is_changed(office: Office, stop: Objection, found: re.Match[str]) -> None:
    seats = int(found["seats"]) * (1 if found["way"] == "raise" else -1)
    able = [row for row in office.snapshot.children if row.active and (row.quantity or 0) + seats >= 0]
    assert able, f"no child can be changed by {seats:+d}"
    office.edit_child(choice(office.pick, able).id, seats, NOT_APPLICABLE)


def _that_log_or_a_child(office: Office, stop: Objection, found: re.Match[str]) -> None:
    if chance(office.pick, 50):
        office.set_status({choice(office.pick, sorted(_logs(found["logs"])))}, PROVISIONED)
    else:
        _one_child_is_changed(office, stop, found)


def _parent_is_corrected(office: Office, stop: Objection, found: re.Match[str]) -> None:
    office.edit_parent(int(found["quantity"]), NOT_APPLICABLE)


def _parent_is_set_back(office: Office, stop: Objection, found: re.Match[str]) -> None:
    office.edit_parent(int(found["quantity"]))


def _all_but_one_wait(office: Office, stop: Objection, found: re.Match[str]) -> None:
    """The others go again once the one is told, as all that a person failed does: see each_remedy_ends_its_hold."""
    kept = office.pick.shuffled(sorted(_logs(found["logs"])))[: _number(found["kept"])]
    office.set_status(_logs(found["logs"]) - set(kept), FAILED)


def _one_goes_again(office: Office, stop: Objection, found: re.Match[str]) -> None:
    office.set_status(set(office.pick.shuffled(sorted(_logs(found["logs"])))[: _number(found["kept"])]), AWAITING)


def _number(word: str) -> int:
    return 1 if word == "one" else int(word)


def _marker_is_emptied(office: Office, stop: Objection, found: re.Match[str]) -> None:
    office.snapshot = with_parent(office.snapshot, marker_text=None)


def _provider_is_set_back(office: Office, stop: Objection, found: re.Match[str]) -> None:
    view = office.snapshot.provider
    assert isinstance(view, ProviderSubscription)
    settled = re.search(r"the CRM settled (?P<seats>\d+)", stop.reason)
    assert settled is not None
    office.snapshot = replace(office.snapshot, provider=replace(view, quantity=int(settled["seats"])))


_LINK = "(?:if .+ was linked here by mistake, link it to its own parent; else )?"
"""Nobody links anything in these worlds."""
_CHILD = (
    r"(?P<way>raise|lower) one child's quantity by (?P<seats>\d+) and set the log that this makes to Not Applicable"
)
Deed = Callable[[Office, Objection, "re.Match[str]"], None]


def _they_go_again(office: Office, stop: Objection, found: re.Match[str]) -> None:
    office.set_status(_logs(found["logs"]), AWAITING)


REMEDIES: dict[str, tuple[tuple[str, Deed], ...]] = {
    "LS-035": ((rf"^set log (?P<log>{_LOG}) of the parent back to Awaiting Provisioning", _back_to_awaiting),),
    "LS-005": ((r"then set the parent's log to Awaiting Provisioning", _failed_log_to_awaiting),),
    "LS-058": (
        (r"^nothing to do: the next run looks again", _log_comes),
        (r"plug-ins run; if it makes no log .* set work365.parent_log: none", _plug_ins_run_or_none_is_declared),
        (r"^set policy.parent_log: create", _create_is_set),
    ),
    "LS-015": (
        (rf"\(log (?P<logs>[^)]+)\), set that log to Provisioned; else {_LINK}{_CHILD}$", _that_log_or_a_child),
        (rf"^{_LINK}{_CHILD}$", _one_child_is_changed),
        (
            r"^set the parent's quantity to (?P<quantity>\d+) and set the log that this makes to Not Applicable$",
            _parent_is_corrected,
        ),
    ),
    "LS-049": ((r"^set the parent's quantity back to (?P<quantity>\d+)", _parent_is_set_back),),
    "LS-070": (
        (r"but (?P<kept>one|\d+) to Failed; .* Awaiting Provisioning again: (?P<logs>.+)$", _all_but_one_wait),
        (
            r"^set (?P<kept>one|\d+) of these changes to Awaiting Provisioning; .*: (?P<logs>.+)$",
            _one_goes_again,
        ),
    ),
    "LS-080": ((rf"^set log (?P<logs>{_LOG}(?:, {_LOG})*) to Awaiting Provisioning", _they_go_again),),
    "LS-072": ((r"else empty the marker's column on the parent's row", _marker_is_emptied),),
    "LS-062": ((r"or set the quantity back in Partner Center", _provider_is_set_back),),
}
"""Rule → how each sentence of its remedies is done."""


# --- worlds in which people did harm -----------------------------------------------------------------------------------


def disturbed(pick: Picker) -> Office:
    """A family on its way, some of it interrupted, in which people did one to three things outside of linksub."""
    world = sound(pick, plain=True, manual=chance(pick, 25))
    env = replace(
        world.env,
        policy=Policy(),
        marker_capacity=choice(pick, (100, 4000)),
        pushes=choice(pick, (None, False, True)),
    )
    if env.parent_log is ParentLog.NONE and chance(pick, 50):
        env = replace(env, policy=Policy(parent_log="create"))
    office = Office(pick, world.snapshot, env)
    for number in range(pick.integer(1, 3)):
        if chance(pick, 70):
            arrived = arrive(pick, office.snapshot, f"newcomer-{number}", env)
            office.snapshot = arrived[0] if arrived else office.snapshot
        actions = office.decide().actions
        for action in actions[: pick.integer(0, len(actions))]:
            office.snapshot = step(office.snapshot, action, env)
        if chance(pick, 80):
            _harm(office)
    return office


def _harm(office: Office) -> None:
    pick, parent = office.pick, office.snapshot.parent
    assert parent is not None and parent.quantity is not None
    some_own = [entry for entry in office.own(AWAITING) if chance(pick, 60)]
    children = [entry for entry in child_logs(office.snapshot) if entry.is_open and entry.quantity]
    match pick.integer(0, 9):
        case 0:
            office.edit_parent(parent.quantity + choice(pick, (3, 7, 10, -2, -5)))
        case 1:
            office.edit_parent(parent.quantity + choice(pick, (3, 7, -2)), choice(pick, (PROVISIONED, NOT_APPLICABLE)))
        case 2:
            office.snapshot = with_parent(office.snapshot, marker_text=choice(pick, (None, "PO 1", "ls2:")))
        case 3:
            office.set_status({entry.id for entry in some_own}, choice(pick, (NOT_APPLICABLE, FAILED)))
        case 4 if children:
            office.set_status({choice(pick, children).id}, choice(pick, (FAILED, PROVISIONED, NOT_APPLICABLE)))
        case 5:
            failed = {str(entry.id) for entry in child_logs(office.snapshot) if entry.status is FAILED}
            office.set_status(failed, AWAITING)
        case 6:
            office.edit_child(SubscriptionId("rest"), choice(pick, (4, -4, 9)), PROVISIONED)
        case 7 | 8 if children and office.env.pushes is not False:
            office.edit_parent(parent.quantity + (choice(pick, children).quantity or 0))
        case _:
            made = [entry for entry in office.snapshot.logs if entry.id.startswith("simulated-")]
            own = [str(entry.id) for entry in made[-1:] if entry.is_awaiting]
            if own and office.env.parent_log is not ParentLog.NOT_APPLICABLE:
                logs = tuple(entry for entry in office.snapshot.logs if entry.id not in own)
                office.snapshot = replace(office.snapshot, logs=logs)


# --- what must hold ----------------------------------------------------------------------------------------------------


def key_of(stop: Objection) -> tuple[str, tuple[tuple[str, Any], ...]]:
    return stop.rule, tuple(sorted((name, str(value)) for name, value in stop.evidence.items()))


def children_are_right(office: Office) -> bool:
    """Whether the locations have exactly the seats that the provider has."""
    return provider_quantity(office.snapshot) == balance(office.snapshot).children_settled


def only_the_parent_is_wrong(office: Office) -> bool:
    """Whether locations and provider agree, nothing is on its way, and the parent says something else."""
    books = balance(office.snapshot, parent_log=office.env.parent_log, pushes=office.env.pushes)
    away = provider_quantity(office.snapshot) not in books.waypoints()
    return children_are_right(office) and away and not books.marker.groups


def each_remedy_ends_its_hold(pick: Picker) -> list[str]:
    """Held, repaired literally, held no more: until nothing is held and the books are right. The rules that spoke."""
    office = disturbed(pick)
    spoke: list[str] = []
    for _ in range(MOST_REPAIRS):
        found = office.run()
        if found.stop is not None:
            assert found.stop.rule in REMEDIES, f"not a hold that these people made: {found.stop}"
            before, right = key_of(found.stop), found.stop.rule in FAMILY_WIDE and only_the_parent_is_wrong(office)
            office.repair(found.stop)
            assert not right or children_are_right(office), f"a remedy damages right books: {found.stop}"
            after = office.decide().stop
            assert after is None or key_of(after) != before, f"done literally, and still held: {found.stop}"
            spoke.append(found.stop.rule)
            continue
        failed = {str(entry.id) for entry in child_logs(office.snapshot) if entry.status is FAILED}
        if not failed and provider_quantity(office.snapshot) not in (None, office.snapshot.parent.quantity):
            office.edit_child(SubscriptionId("rest"), 1, AWAITING)  # the next change shows that the provider differs
            continue
        if not failed:
            break
        office.set_status(failed, AWAITING)  # LS-073, LS-004: a person lets them go
    else:
        raise AssertionError(f"no end of holds: {spoke}")
    books = balance(office.snapshot, parent_log=office.env.parent_log, pushes=office.env.pushes)
    assert not books.groups, "a group stays for ever"
    assert books.lead == books.ahead == 0
    assert books.parent_quantity == books.children_settled
    assert provider_quantity(office.snapshot) in (None, books.parent_quantity), "a remedy damaged right books"
    return spoke
