"""The decision for one family: pure, total and deterministic (design §4).

``decide`` looks at one snapshot and says what may happen next. ``simulate`` is the same world after a perfect
application of that decision. ``plan_family`` plays the two against each other until nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from connector.domain.carried import Carried, State, after_leaving
from connector.domain.decision import Accept, Decision, Hold, Objection, Refuse, Wait
from connector.domain.model import (
    LicenseChangeLog,
    LogId,
    ProviderSubscription,
    Snapshot,
    Subscription,
    SubscriptionId,
    seats_of,
)
from connector.domain.plan import (
    Acknowledge,
    Action,
    FailLogs,
    FamilyDecision,
    MakeParentLog,
    ScheduleAtRenewal,
    SetParentQuantity,
    SetProviderQuantity,
)
from connector.domain.raising import MOST_TOLD_AT_ONCE, has_room, marker_of, raised_marker, take_back
from connector.domain.rules.accounts import account_of
from connector.domain.rules.registry import Context, Environment, RuleBook, Scope, Stage
from connector.domain.seats import SeatAccount, balance, moves_seats, order_key
from connector.domain.selection import select

RENEWAL_TAKEN = "LS-063"
TAKING_BACK = "LS-071"


def decide(snapshot: Snapshot, env: Environment, rules: RuleBook) -> FamilyDecision:
    """What may happen next to one family. Never raises for odd data: rules say what is odd."""
    found = _decide(snapshot, env, rules)
    return replace(found, notices=rules.notices(Context(snapshot, env, books=found.books)))


def _decide(snapshot: Snapshot, env: Environment, rules: RuleBook) -> FamilyDecision:
    family = snapshot.subject.id
    logs = _ordered_child_logs(snapshot, env)
    context = Context(snapshot, env)

    stop = rules.first_objection(context, Scope.FAMILY, Stage.PRE_VALIDATION)
    if stop is not None:
        return FamilyDecision(family, {log.id: stop for log in logs if log.is_awaiting}, stop=stop)

    decisions = _judge_logs(snapshot, env, rules, logs, frozenset())
    if snapshot.parent is None:
        return FamilyDecision(family, decisions, actions=_refusals(logs, decisions))

    books = balance(snapshot, parent_log=env.parent_log, pushes=env.pushes)
    context = replace(context, books=books)
    told_late = books.told_late or ()
    forced = frozenset(log.id for log in (*told_late, *books.live))
    if forced:
        decisions = _judge_logs(snapshot, env, rules, logs, forced)
    decisions |= _not_carried_now(logs, decisions, books, forced)
    stop = rules.first_objection(context, Scope.FAMILY, Stage.PRE_OPERATION)
    late = {log.id for log in told_late}
    candidates = [log for log in logs if isinstance(decisions.get(log.id), Accept) and log.id not in late]
    if stop is not None:
        return _stopped(snapshot, env, family, logs, decisions, books, rules, stop)
    if env.makes_parent_log and books.without_log:
        made = tuple(
            MakeParentLog(snapshot.parent.id, one.group.delta, str(one.group)) for one in books.without_log[:1]
        )
        return FamilyDecision(
            family, decisions, (*_refusals(logs, decisions), *made), books=books, goal=books.parent_quantity
        )
    if books.stopped:
        back = take_back(snapshot, books, env.marker_capacity)
        return FamilyDecision(family, decisions, (*_refusals(logs, decisions), back), books=books, goal=back.target)
    if not (candidates or told_late or books.in_flight or books.carried or _is_to_be_mended(snapshot, env, books)):
        stay = after_leaving(books.groups)
        tidy = () if len(stay) == len(books.groups) else (Acknowledge((), (), marker=marker_of(books, stay)),)
        return FamilyDecision(family, decisions, actions=(*_refusals(logs, decisions), *tidy), books=books)

    selection = select(
        context,
        env,
        rules,
        candidates,
        frozenset(log.id for log in books.live),
        lambda new: has_room(snapshot, books, new, env),
    )
    decisions = {**decisions, **selection.objections}
    if selection.stop is not None:
        return _stopped(snapshot, env, family, logs, decisions, books, rules, selection.stop)
    carried = {log.id for log in books.live}
    goal = books.parent_quantity + seats_of(log for log in selection.accepted if log.id not in carried)
    promised = [log for log in candidates if _is_for_renewal(decisions.get(log.id), env)]
    schedule, clash = _at_renewal(snapshot, promised, goal)
    if clash is not None:
        decisions |= {log.id: clash for log in promised}
    actions = (
        *_refusals(logs, decisions),
        *_pushes(snapshot, env, books, selection.accepted, goal, told_late, schedule),
    )
    return FamilyDecision(
        family,
        decisions,
        actions=actions,
        books=books,
        goal=goal,
        awaits_person=_awaits_person(env, books, goal),
    )


def _is_to_be_mended(snapshot: Snapshot, env: Environment, books: SeatAccount) -> bool:
    """Whether the provider stands where this very unit of work brought it, and the CRM has moved on since."""
    view = snapshot.provider
    return (
        isinstance(view, ProviderSubscription) and view.quantity in env.mends and view.quantity != books.parent_quantity
    )


def _ordered_child_logs(snapshot: Snapshot, env: Environment) -> list[LicenseChangeLog]:
    """All open logs of everything but the parent, in the order of design §4 step 2.

    A subscription that is linked to itself is parent and child at once; its logs are judged as a child's.
    """
    rows = {child.id for child in snapshot.children}
    return sorted(
        (log for log in snapshot.logs if log.is_open and log.subscription_id in rows),
        key=lambda log: order_key(log, env.calendar),
    )


def _judge_logs(
    snapshot: Snapshot,
    env: Environment,
    rules: RuleBook,
    logs: Sequence[LicenseChangeLog],
    forced: frozenset[LogId],
) -> dict[LogId, Decision]:
    """The log-scoped steps for every open child log; ``forced`` ones are in the parent's quantity already."""
    rows: dict[SubscriptionId, Subscription] = {child.id: child for child in snapshot.children}
    left_behind: dict[SubscriptionId, LicenseChangeLog] = {}
    decisions: dict[LogId, Decision] = {}
    for log in logs:
        if log.id in forced:
            decisions[log.id] = Accept(reason="carried by an earlier pass")
            continue
        if not log.is_awaiting:
            if moves_seats(log):
                left_behind.setdefault(log.subscription_id, log)
            continue
        context = Context(
            snapshot, env, target=log, child=rows[log.subscription_id], left_behind=left_behind.get(log.subscription_id)
        )
        found = rules.first_objection(context, Scope.LOG)
        decisions[log.id] = found or Accept()
        if found is not None and moves_seats(log):
            left_behind.setdefault(log.subscription_id, log)
    return decisions


def _refusals(logs: Sequence[LicenseChangeLog], decisions: Mapping[LogId, Decision]) -> tuple[Action, ...]:
    """One FailLogs for each refused log: each has its own reason."""
    return tuple(
        FailLogs((log,), f"{found.reason} [{found.rule}]" + (f". {found.remedy}" if found.remedy else ""), found.rule)
        for log in logs
        if isinstance(found := decisions.get(log.id), Refuse)
    )


def _provider_confirmed(snapshot: Snapshot, env: Environment, books: SeatAccount) -> bool:
    """Whether the provider has at least what the parent's settled quantity says (a person's word for manual ones)."""
    view = snapshot.provider
    if isinstance(view, ProviderSubscription):
        # Where a person's own change of the parent leads says nothing about what the children asked for.
        return view.quantity in (books.waypoints() if books.carried is not None else (books.parent_settled,))
    return env.capabilities is not None and not env.capabilities.reports and env.capabilities.provisions


def _stopped(
    snapshot: Snapshot,
    env: Environment,
    family: SubscriptionId,
    logs: Sequence[LicenseChangeLog],
    decisions: Mapping[LogId, Decision],
    books: SeatAccount,
    rules: RuleBook,
    stop: Objection,
) -> FamilyDecision:
    """A family-wide stop: refusals still go out, and children that the provider side confirmed are still told."""
    told_late = books.told_late or ()
    rule = rules.get(stop.rule)
    tells = bool(told_late) and rule is not None and rule.still_tells and _provider_confirmed(snapshot, env, books)
    late = {log.id for log in told_late} if tells else set()
    judged = {
        log_id: stop if isinstance(found, Accept) and log_id not in late else found
        for log_id, found in decisions.items()
    }
    failed_parent: list[Action] = []
    if isinstance(stop, Refuse):
        # The parent was raised already, so the failure is the parent's, exactly as if the provider had said no: what it
        # carries stays as it is.
        awaiting = tuple(log for log in books.parent_open if log.is_awaiting)
        if awaiting:
            failed_parent.append(FailLogs(awaiting, f"{stop.reason} [{stop.rule}]", stop.rule))
        judged = {
            log_id: Wait(
                stop.rule, f"the parent's log cannot be provisioned: {stop.reason}", stop.evidence, stop.remedy
            )
            if found is stop
            else found
            for log_id, found in judged.items()
        }
    actions = [*_refusals(logs, judged), *failed_parent]
    if tells:
        actions.append(_tell(books, told_late))
    return FamilyDecision(family, judged, tuple(actions), stop, books)


def _not_carried_now(
    logs: Sequence[LicenseChangeLog],
    decisions: Mapping[LogId, Decision],
    books: SeatAccount,
    forced: frozenset[LogId],
) -> dict[LogId, Decision]:
    """Changes that may not be carried now: a change that is being taken back (and what follows it on the same child), and
    any new one while a raise and its take-back are not settled alike."""
    found: dict[LogId, Decision] = {}
    behind: set[SubscriptionId] = set()
    for log in logs:
        if log.id in forced or not isinstance(decisions.get(log.id), Accept):
            continue
        if log.id in books.taken_back:
            behind.add(log.subscription_id)
        if books.halfway or log.subscription_id in behind:
            found[log.id] = Wait(
                TAKING_BACK, "a change that a person stopped is being taken back; this one goes once that is settled"
            )
    return found


def _tell(books: SeatAccount, told: Sequence[LicenseChangeLog]) -> Acknowledge:
    """Children are told what the provider side has confirmed; what is in flight stays so."""
    told = tuple(told)[:MOST_TOLD_AT_ONCE]
    stay = after_leaving(books.groups, told=frozenset(log.id for log in told))
    return Acknowledge((), told, marker=marker_of(books, stay))


def _tell_all(
    snapshot: Snapshot,
    env: Environment,
    books: SeatAccount,
    raise_: SetParentQuantity | None,
    told: Sequence[LicenseChangeLog],
) -> Acknowledge:
    """Everything is confirmed: the parent's own logs, then the children's. What does not fit into one step follows in
    the next one, explained by its group, which then stays."""
    awaiting = tuple(log for log in books.parent_open if log.is_awaiting)
    raised = frozenset(raise_.carries if raise_ else ())
    named = {change.id for one in books.groups for change in one.changes} | raised
    in_order = sorted(
        _in_order(told, env), key=lambda log: log.id in named
    )  # what no group names goes in the first step
    now = tuple(in_order[:MOST_TOLD_AT_ONCE])
    groups = books.groups
    if raise_ is not None:
        stay = after_leaving(books.groups)
        new = raise_.marker.groups[-1]
        changes = tuple(log for log in snapshot.logs if log.id in raised)
        groups = (*stay, Carried(new, changes, None, State.MISSING))
    stay = after_leaving(groups, told=frozenset(log.id for log in now), confirmed=frozenset(range(len(groups))))
    return Acknowledge(
        awaiting, now, marker_of(books, stay), new_parent_log=raise_ is not None and raise_.target != raise_.before
    )


def _pushes(
    snapshot: Snapshot,
    env: Environment,
    books: SeatAccount,
    accepted: tuple[LicenseChangeLog, ...],
    goal: int,
    told_late: tuple[LicenseChangeLog, ...],
    schedule: Action | None,
) -> list[Action]:
    """Parent, provider, acknowledgement: what brings the family to its goal."""
    parent = snapshot.parent
    assert parent is not None
    carried = {log.id for log in books.live}
    new = [log for log in accepted if log.id not in carried]
    marker = raised_marker(snapshot, books, new)
    actions: list[Action] = []
    raise_: SetParentQuantity | None = None
    if marker is not None:
        names = tuple(log.id for log in new)
        raise_ = SetParentQuantity(parent.id, books.parent_quantity, goal, marker, names)
        actions.append(raise_)
    carries = tuple(log.id for log in accepted)
    view = snapshot.provider
    if isinstance(view, ProviderSubscription) and env.is_manual and view.quantity != goal:
        # It reports, and a person sets it: the rest follows once it reports the goal.
        return [*actions, _tell(books, told_late)] if told_late and raise_ is None else actions
    everything = (*told_late, *accepted)
    if isinstance(view, ProviderSubscription):
        if view.quantity != goal:
            account = account_of(snapshot)
            assert not isinstance(account, str), "LS-013 refuses every log of a parent without an account"
            assert parent.provider is not None
            actions.append(SetProviderQuantity(parent.provider, view.tenant, view.id, view.quantity, goal, carries))
        if schedule is not None:
            actions.append(schedule)
        told = _tell_all(snapshot, env, books, raise_, everything)
        if not told.only_tidies or told.marker.groups != books.marker.groups:
            actions.append(told)
        return actions
    if raise_ is not None and goal == books.parent_quantity and not books.in_flight:
        actions.append(_tell_all(snapshot, env, books, raise_, everything))
    elif raise_ is not None or books.in_flight:
        # A person provisions: nothing of the accepted set may be acknowledged before the parent's logs are.
        told = _tell(books, told_late)
        if raise_ is None and (told_late or told.marker.groups != books.marker.groups):
            actions.append(told)
    elif everything:
        actions.append(_tell_all(snapshot, env, books, None, everything))
    return actions


def _is_for_renewal(decision: Decision | None, env: Environment) -> bool:
    return isinstance(decision, Wait) and decision.rule == "LS-017" and env.policy.refused_decrease == "schedule"


def _at_renewal(
    snapshot: Snapshot, promised: Sequence[LicenseChangeLog], goal: int
) -> tuple[ScheduleAtRenewal | None, Hold | None]:
    """The change to schedule for decreases that wait for the renewal, or why it cannot be: somebody else's stands there.

    What is scheduled moves with the seats that go now, so it is compared as it will be then. It is ours if it equals the
    goal less some first of the promised decreases.
    """
    view, parent = snapshot.provider, snapshot.parent
    if not promised or not isinstance(view, ProviderSubscription) or parent is None or parent.provider is None:
        return None, None
    wanted, ours = goal, {goal}
    for log in promised:
        wanted += log.quantity or 0
        ours.add(wanted)
    there = None if view.scheduled_quantity is None else view.scheduled_quantity + goal - view.quantity
    if there == wanted:
        return None, None
    if view.has_scheduled_change and there not in ours:
        return None, Hold(
            RENEWAL_TAKEN,
            f"the provider already holds another change for the renewal ({view.scheduled_quantity} seats)",
            {"scheduled_quantity": view.scheduled_quantity, "wanted": wanted},
            "settle the scheduled change in Partner Center; this decrease then goes by itself",
        )
    ids = tuple(log.id for log in promised)
    return ScheduleAtRenewal(parent.provider, view.tenant, view.id, view.scheduled_quantity, wanted, ids), None


def _in_order(logs: Iterable[LicenseChangeLog], env: Environment) -> tuple[LicenseChangeLog, ...]:
    return tuple(sorted(logs, key=lambda log: order_key(log, env.calendar)))


def _awaits_person(env: Environment, books: SeatAccount, goal: int) -> bool:
    return env.is_manual and (books.parent_quantity != goal or books.in_flight)
