"""What must hold in every world: each check takes a world (and a source of choices) and raises if it does not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from connector.domain.decide import decide
from connector.domain.decision import Accept, Refuse
from connector.domain.marker import Known
from connector.domain.model import LicenseChangeLog, LogId, ProviderSubscription, Snapshot, SubscriptionId
from connector.domain.plan import (
    Acknowledge,
    Action,
    FailLogs,
    FamilyDecision,
    MakeParentLog,
    SetParentQuantity,
    SetProviderQuantity,
)
from connector.domain.policy import Policy
from connector.domain.rounds import plan_family, play_family
from connector.domain.rules.builtin import BUILTIN
from connector.domain.rules.registry import Context, Environment, Scope, Stage
from connector.domain.seats import balance, moves_seats, order_key
from tests.families import AWAITING, FAILED, PROVISIONED
from tests.property.worlds import (
    STRANGERS,
    Picker,
    World,
    add,
    arrive,
    chance,
    child_logs,
    choice,
    later,
    provider_quantity,
    settled_by_children,
    sound,
    step,
    with_status,
)

A = TypeVar("A", bound=Action)

DRIFT = {"LS-015", "LS-049", "LS-062", "LS-058", "LS-035", "LS-070", "LS-072"}
"""Stops that say that nobody knows how the figures came about: never to be seen after a mere crash."""


def of(actions: Iterable[Action], kind: type[A]) -> list[A]:
    return [action for action in actions if isinstance(action, kind)]


def only_prepares(found: FamilyDecision) -> bool:
    """Whether a decision only takes back what a person stopped, or makes a log that is missing: all else comes after it."""
    return any(
        isinstance(action, MakeParentLog) or (isinstance(action, SetParentQuantity) and action.takes_back)
        for action in found.actions
    )


# --- any world -------------------------------------------------------------------------------------------------------


def order_of_rows_does_not_matter(pick: Picker, world: World) -> None:
    snapshot = world.snapshot
    turned = replace(
        snapshot,
        children=pick.shuffled(snapshot.children),
        logs=pick.shuffled(snapshot.logs),
        accounts=pick.shuffled(snapshot.accounts),
    )
    assert decide(turned, world.env, BUILTIN) == world.decide()
    straight, other = plan_family(snapshot, world.env, BUILTIN), plan_family(turned, world.env, BUILTIN)
    assert (straight.rounds, straight.price) == (other.rounds, other.price)


def nothing_depends_on_another_family(pick: Picker, world: World) -> None:
    first = world.decide()
    other = sound(pick)
    other.decide()
    assert world.decide() == first
    crowded = replace(world.snapshot, accounts=pick.shuffled((*world.snapshot.accounts, *STRANGERS)))
    if not set(STRANGERS) & set(world.snapshot.accounts):
        assert decide(crowded, world.env, BUILTIN) == first


def planning_after_a_perfect_apply_is_empty(_: Picker, world: World) -> None:
    found = plan_family(world.snapshot, world.env, BUILTIN)
    open_logs = sum(1 for entry in world.snapshot.logs if entry.is_open)
    assert len(found.rounds) <= 2 * open_logs + 3, "a family needs a round or two for each of its changes, not more"
    snapshot = world.snapshot
    for action in found.actions:
        snapshot = step(snapshot, action, world.env)
    assert plan_family(snapshot, world.env, BUILTIN).actions == ()


def every_change_is_decided_once_and_the_sums_agree(_: Picker, world: World) -> None:
    found = world.decide()
    awaiting = {entry.id for entry in child_logs(world.snapshot) if entry.is_awaiting}
    open_logs = {entry.id for entry in child_logs(world.snapshot) if entry.is_open}
    assert awaiting <= set(found.decisions) <= open_logs
    if found.goal is None:
        assert not of(found.actions, SetParentQuantity)
        assert not of(found.actions, SetProviderQuantity)
        return
    assert found.books is not None
    late = {entry.id for entry in found.books.told_late or ()}
    live = {entry.id for entry in found.books.live}
    assert live <= set(found.accepted), "what the parent's quantity contains already is never dropped"
    if only_prepares(found):
        return
    sizes = {entry.id: entry.quantity or 0 for entry in world.snapshot.logs}
    new = sum(sizes[log_id] for log_id in found.accepted if log_id not in late | live)
    assert new == found.goal - found.books.parent_quantity
    in_flight = sum(entry.quantity or 0 for entry in found.books.carried or ())
    if not found.books.halfway:
        assert new + in_flight == found.goal - found.books.parent_settled


def what_is_sent_is_absolute_and_never_zero(_: Picker, world: World) -> None:
    found = world.decide()
    parent = world.snapshot.parent
    for raised in of(found.actions, SetParentQuantity):
        assert parent is not None
        assert raised.target == found.goal
        assert raised.target > 0
        assert raised.before == (parent.quantity if parent.active else 0)
        assert raised.takes_back or set(raised.carries) <= set(found.accepted)
        logs = [entry for entry in child_logs(world.snapshot) if moves_seats(entry)]
        (*_, (group, changes)) = Known(logs).changes_of_all(raised.marker.groups)
        assert {entry.id for entry in changes} == set(raised.carries), "the marker names what it carries"
        assert (group.before, group.delta, group.back) == (
            raised.before,
            raised.target - raised.before,
            raised.takes_back,
        )
        if not raised.takes_back:
            assert raised.marker.length <= world.env.marker_capacity
    for sent in of(found.actions, SetProviderQuantity):
        assert sent.target == found.goal
        assert sent.target > 0
        assert sent.before == provider_quantity(world.snapshot)
        assert sent.delta != 0
    late = found.books.told_late if found.books else None
    order = [SetParentQuantity, SetProviderQuantity, Acknowledge]
    pushes = [action for action in found.actions if not (isinstance(action, Acknowledge) and action.child_logs == late)]
    kinds = [type(action) for action in pushes if type(action) in order]
    assert kinds == sorted(kinds, key=order.index), "the parent first, then the provider, and people are told last"
    assert max(Counter(kinds).values(), default=0) <= 1


def only_awaiting_or_carried_changes_are_touched(_: Picker, world: World) -> None:
    found = world.decide()
    books = found.books
    late = {entry.id for entry in books.told_late or ()} if books else set[LogId]()
    for failed in of(found.actions, FailLogs):
        assert all(entry.status is AWAITING for entry in failed.logs)
        own_rows = {entry.id for entry in child_logs(world.snapshot)}
        told_no = [entry for entry in failed.logs if entry.id in own_rows]
        assert all(isinstance(found.decisions[entry.id], Refuse) for entry in told_no), "failed though not refused"
        assert failed.message
    raised = any(action.target != action.before for action in of(found.actions, SetParentQuantity))
    own = world.snapshot.logs_of(world.snapshot.parent.id) if world.snapshot.parent else ()
    for told in of(found.actions, Acknowledge):
        assert all(entry.status is AWAITING for entry in told.parent_logs)
        assert all(entry.is_awaiting for entry in told.child_logs)
        assert {entry.id for entry in told.child_logs} <= set(found.accepted)
        if any(entry.id not in late for entry in told.child_logs):
            assert {entry.id for entry in told.parent_logs} == {entry.id for entry in own if entry.is_awaiting}
            assert told.new_parent_log == raised
            assert not any(entry.status is FAILED for entry in own)


def nothing_is_accepted_that_a_rule_refuses(_: Picker, world: World) -> None:
    found, snapshot, env = world.decide(), world.snapshot, world.env
    if found.goal is None or found.books is None or only_prepares(found):
        return
    late = {entry.id for entry in found.books.told_late or ()}
    forced = late | {entry.id for entry in found.books.live}
    rows = {child.id: child for child in snapshot.children}
    ordered = sorted(
        (entry for entry in child_logs(snapshot) if entry.is_open), key=lambda entry: order_key(entry, env.calendar)
    )
    going = set(found.accepted)
    for at, entry in enumerate(ordered):
        if entry.id not in going or entry.id in forced:
            continue
        behind = next(
            (
                other
                for other in ordered[:at]
                if other.subscription_id == entry.subscription_id and moves_seats(other) and other.id not in going
            ),
            None,
        )
        context = Context(snapshot, env, target=entry, child=rows[entry.subscription_id], left_behind=behind)
        for rule in BUILTIN:
            if rule.scope is Scope.LOG and rule.function is not None:
                assert rule.function(context) is None, f"{rule.id} objects to {entry.id}, which goes"
    accepted = tuple(entry for entry in ordered if entry.id in going and entry.id not in late)
    whole = Context(
        snapshot,
        env,
        books=found.books,
        accepted=accepted,
        goal=found.goal,
        at_provider=provider_quantity(snapshot),
    )
    for rule in BUILTIN:
        notices = rule.stage is Stage.POST_OPERATION
        if rule.scope in (Scope.FAMILY, Scope.CHANGE) and rule.function is not None and not notices:
            assert rule.function(whole) is None, f"{rule.id} objects to the change that goes"


def deciding_is_deterministic(_: Picker, world: World) -> None:
    copy = replace(world.snapshot)  # no cached grouping of its logs
    assert decide(copy, world.env, BUILTIN) == world.decide() == world.decide()


def seats_and_money_add_up(_: Picker, world: World) -> None:
    """What the plan says that the provider gains is what the world ends with: no seat is bought twice or lost."""
    found = plan_family(world.snapshot, world.env, BUILTIN)
    end = world.snapshot
    for action in found.actions:
        end = step(end, action, world.env)
    before, after = provider_quantity(world.snapshot), provider_quantity(end)
    if before is not None and after is not None:
        assert found.seats_at_provider == after - before
    for done in found.rounds:
        if done.goal is not None and done.goal == before and len(found.rounds) == 1:
            assert not of(done.actions, SetProviderQuantity), "a move that nets to nothing is no purchase"


def nothing_is_bought_that_nobody_asked_for(_: Picker, world: World) -> None:
    """Where money moved, the provider ends with what the locations were told, and what a person failed too late."""
    plan, end = play_family(world.snapshot, world.env, BUILTIN)
    if not of(plan.actions, SetProviderQuantity) or plan.stop is not None:
        return
    books = balance(end, parent_log=world.env.parent_log, pushes=world.env.pushes)
    assert (books.drift, books.surplus, books.in_flight) == (0, 0, False)
    paid = sum(entry.quantity or 0 for entry in books.paid)
    assert provider_quantity(end) == books.parent_settled == books.children_settled + paid


ANYTHING: tuple[Callable[[Picker, World], None], ...] = (
    order_of_rows_does_not_matter,
    nothing_depends_on_another_family,
    planning_after_a_perfect_apply_is_empty,
    every_change_is_decided_once_and_the_sums_agree,
    what_is_sent_is_absolute_and_never_zero,
    only_awaiting_or_carried_changes_are_touched,
    nothing_is_accepted_that_a_rule_refuses,
    deciding_is_deterministic,
    seats_and_money_add_up,
    nothing_is_bought_that_nobody_asked_for,
)

# --- crash points ----------------------------------------------------------------------------------------------------


class Witness:
    """Follows one family and compares what was told with what the provider has, after every single action."""

    def __init__(self, world: World) -> None:
        self.snapshot, self.env = world.snapshot, world.env
        self.base = settled_by_children(world.snapshot)
        self.settled = {entry.id for entry in child_logs(world.snapshot) if not entry.is_open}

    @property
    def told(self) -> int:
        """Seats of the changes that were acknowledged since the beginning."""
        return sum(
            entry.quantity or 0
            for entry in child_logs(self.snapshot)
            if entry.status is PROVISIONED and entry.id not in self.settled
        )

    def take(self, action: Action) -> None:
        self.snapshot = step(self.snapshot, action, self.env)
        if isinstance(action, Acknowledge) and provider_quantity(self.snapshot) is not None:
            assert provider_quantity(self.snapshot) == self.base + self.told, "told without the seats, or seats doubled"
            books = balance(self.snapshot, parent_log=self.env.parent_log)
            assert books.parent_settled == settled_by_children(self.snapshot) == self.base + self.told

    def one_pass(self, upto: int | None = None) -> bool:
        """One decision and its actions (or the first few of them); whether anything was done."""
        actions = decide(self.snapshot, self.env, BUILTIN).actions
        for action in actions[:upto]:
            self.take(action)
        return bool(actions)

    def run_out(self) -> None:
        for _ in range(64):
            if not self.one_pass():
                return
        raise AssertionError("it never comes to rest")

    def end(self) -> tuple[int | None, int | None, dict[LogId, str]]:
        assert self.snapshot.parent is not None
        statuses = {entry.id: str(entry.status) for entry in child_logs(self.snapshot)}
        return self.snapshot.parent.quantity, provider_quantity(self.snapshot), statuses


def _prefix(pick: Picker, witness: Witness) -> int:
    return pick.integer(0, len(decide(witness.snapshot, witness.env, BUILTIN).actions))


def a_crash_changes_nothing_in_the_end(pick: Picker) -> None:
    """Any rules, nobody at work meanwhile: the interrupted run ends as the uninterrupted one does.

    Refusals of one pass are taken together here: what is refused first may make room for a pair that nets to nothing.
    """
    world = sound(pick, manual=False, careful=True)
    interrupted, smooth = Witness(world), Witness(world)
    for _ in range(pick.integer(1, 3)):
        upto = _prefix(pick, interrupted)
        refusals = len(of(decide(interrupted.snapshot, interrupted.env, BUILTIN).actions, FailLogs))
        interrupted.one_pass(0 if upto < refusals else upto)
    interrupted.run_out()
    smooth.run_out()
    assert interrupted.end() == smooth.end()


def a_crash_and_newcomers_end_as_if_all_had_been_there_from_the_start(pick: Picker) -> None:
    world = sound(pick, plain=True, manual=False)
    interrupted, newcomers = Witness(world), list[LicenseChangeLog]()
    for number in range(pick.integer(1, 3)):
        interrupted.one_pass(_prefix(pick, interrupted))
        for more in range(pick.integer(0, 2)):
            arrived = arrive(pick, interrupted.snapshot, f"newcomer-{number}-{more}", world.env)
            if arrived is not None:
                interrupted.snapshot = arrived[0]
                newcomers.append(arrived[1])
    interrupted.run_out()
    start = world.snapshot
    for made in newcomers:
        start = add(start, made)
    smooth = Witness(World(start, world.env))
    smooth.run_out()
    assert interrupted.end() == smooth.end()
    left = [entry for entry in interrupted.snapshot.logs if entry.is_awaiting and moves_seats(entry)]
    calendar = world.env.calendar
    stuck = {entry.subscription_id for entry in interrupted.snapshot.logs if entry.status is FAILED}
    assert all(not calendar.is_due(entry, world.env.now) or entry.subscription_id in stuck for entry in left)


def no_crash_ever_looks_like_drift(pick: Picker) -> None:
    """Any rules, users at work and time passing between the crashes: the books stay explained, and right at the end."""
    world = sound(pick, manual=False, careful=True)
    witness = Witness(world)
    for number in range(pick.integer(1, 4)):
        witness.one_pass(_prefix(pick, witness))
        if chance(pick, 15):
            log_not_made_yet(witness.snapshot, witness.env)
        if chance(pick, 60):
            arrived = arrive(pick, witness.snapshot, f"newcomer-{number}", witness.env)
            witness.snapshot = arrived[0] if arrived else witness.snapshot
        if chance(pick, 15):
            witness.snapshot = pushed_by_work_365_itself(witness.snapshot)
        if chance(pick, 30):
            hours = choice(pick, (1, 20, 80, 200))
            witness.env = later(witness.env, witness.env.now + timedelta(hours=hours))
        stop = decide(witness.snapshot, witness.env, BUILTIN).stop
        assert stop is None or stop.rule not in DRIFT, f"a crash reads as drift: {stop}"
    witness.run_out()
    stop = decide(witness.snapshot, witness.env, BUILTIN).stop
    assert stop is None or stop.rule not in DRIFT, f"a crash reads as drift: {stop}"
    if stop is None:
        parent, provider, _ = witness.end()
        assert parent == provider == witness.base + witness.told


def pushed_by_work_365_itself(snapshot: Snapshot) -> Snapshot:
    """Work 365's own engine brought the provider to the parent's quantity and settled the parent's logs before us."""
    parent, view = snapshot.parent, snapshot.provider
    assert parent is not None
    assert parent.quantity is not None
    assert isinstance(view, ProviderSubscription)
    own = {str(entry.id) for entry in snapshot.logs_of(parent.id) if entry.is_awaiting}
    return with_status(replace(snapshot, provider=replace(view, quantity=parent.quantity)), own, PROVISIONED)


def log_not_made_yet(snapshot: Snapshot, env: Environment) -> None:
    """The parent was raised and the CRM's plug-in has not made its log: nothing more may be bought or told."""
    groups = balance(snapshot, parent_log=env.parent_log).groups
    if not groups or groups[-1].log is None or not groups[-1].log.is_awaiting:
        return
    without = replace(snapshot, logs=tuple(entry for entry in snapshot.logs if entry is not groups[-1].log))
    actions = plan_family(without, replace(env, parent_log=None), BUILTIN).actions
    assert not of(actions, SetProviderQuantity), "bought without a log at the parent"
    assert not of(actions, SetParentQuantity), "raised twice"
    untold = {entry.id for entry in groups[-1].changes}
    assert not any(untold & {entry.id for entry in told.child_logs} for told in of(actions, Acknowledge))


def a_manual_parent_is_followed_step_by_step(pick: Picker) -> None:
    """A person confirms the parent's logs in order, some at a time, while users go on: children follow exactly that."""
    world = sound(pick, manual=True)
    witness = Witness(world)
    for number in range(pick.integer(1, 4)):
        witness.one_pass(_prefix(pick, witness))
        _told_matches_the_person(witness)
        if chance(pick, 40):
            arrived = arrive(pick, witness.snapshot, f"newcomer-{number}", witness.env)
            witness.snapshot = arrived[0] if arrived else witness.snapshot
        own = _own_awaiting(witness.snapshot)
        witness.snapshot = with_status(witness.snapshot, set(own[: pick.integer(0, len(own))]), PROVISIONED)
    for _ in range(12):
        witness.run_out()
        _told_matches_the_person(witness)
        witness.snapshot = with_status(witness.snapshot, set(_own_awaiting(witness.snapshot)), PROVISIONED)
    witness.run_out()
    found = decide(witness.snapshot, witness.env, BUILTIN)
    assert found.stop is None or found.stop.rule not in DRIFT, f"a confirmation reads as drift: {found.stop}"
    if found.stop is None:
        assert witness.end()[0] == witness.base + witness.told
        assert not any(isinstance(each, Accept) for each in found.decisions.values())
        assert not any(isinstance(each, Refuse) for each in found.decisions.values())


def _own_awaiting(snapshot: Snapshot) -> list[str]:
    own = [entry for entry in snapshot.logs if entry.subscription_id == SubscriptionId("parent") and entry.is_awaiting]
    return [entry.id for entry in sorted(own, key=lambda entry: entry.created_on)]


def _told_matches_the_person(witness: Witness) -> None:
    confirmed = balance(witness.snapshot).parent_settled - witness.base
    if not decide(witness.snapshot, witness.env, BUILTIN).actions:
        assert witness.told == confirmed, "children are told exactly what a person confirmed"


def netting_is_only_a_matter_of_order(pick: Picker) -> None:
    """When the provider takes everything, the CRM ends the same with netting on and off."""
    world = sound(pick, plain=True, manual=False)
    ends = []
    for netting in (True, False):
        env = replace(world.env, policy=Policy(netting=netting))
        witness = Witness(World(world.snapshot, env))
        witness.run_out()
        ends.append(witness.end())
    assert ends[0] == ends[1]


CRASHES: tuple[Callable[[Picker], None], ...] = (
    a_crash_changes_nothing_in_the_end,
    a_crash_and_newcomers_end_as_if_all_had_been_there_from_the_start,
    no_crash_ever_looks_like_drift,
    a_manual_parent_is_followed_step_by_step,
    netting_is_only_a_matter_of_order,
)
