"""Rules register the way Dynamics developers register plug-in steps.

A step has an id, a *message* (what happened to the row), a *stage* (PreValidation may refuse or find that it is not
this change's turn, PreOperation may wait, hold or shape, PostOperation follows up), a *rank* within the stage, the
columns that matter, and a pure function of the execution context. ``Scope`` says what the function judges: one log,
the family, or the net change of a pass. A *guarantee* has no function: the unit of work keeps it, and a scenario shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum, StrEnum

from connector.domain.calendar import Calendar
from connector.domain.decision import Hold, Objection, Refuse, Skip, Wait
from connector.domain.model import Capabilities, LicenseChangeLog, ParentLog, Snapshot, Subscription
from connector.domain.policy import Policy
from connector.domain.seats import SeatAccount


class Message(StrEnum):
    """The Dataverse message that a step listens to, as Dynamics names it."""

    CREATE = "Create"
    UPDATE = "Update"
    SET_STATE = "SetState"
    ASSOCIATE = "Associate"


class Stage(IntEnum):
    """Stages of the execution pipeline, with the numbers that Dynamics gives them."""

    PRE_VALIDATION = 10
    PRE_OPERATION = 20
    POST_OPERATION = 40

    @property
    def label(self) -> str:
        """The stage as people write it."""
        return {10: "PreValidation", 20: "PreOperation", 40: "PostOperation"}[self.value]


class Scope(StrEnum):
    """What a step judges."""

    LOG = "log"
    FAMILY = "family"
    CHANGE = "change"
    GUARANTEE = "guarantee"


class Severity(StrEnum):
    """How loud a step is in reports."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything that a decision depends on besides the snapshot."""

    policy: Policy
    calendar: Calendar
    now: datetime
    capabilities: Capabilities | None
    """Of the parent's provider plug-in; None if no plug-in has the parent's provider key."""
    marker_capacity: int = 100
    """Characters (UTF-16 units) that fit into the marker's column."""
    parent_log: ParentLog | None = None
    """What the CRM does with the parent's own log, as declared or observed; None if that is not known."""
    pushes: bool | None = None
    """Whether the CRM's own engine raises parents; None if nobody declared it."""
    own_targets: frozenset[int] = frozenset()
    """Quantities to which writes of ours may have brought the provider, or may yet: waypoints, never drift."""
    addon_first: str | None = None
    """The add-on that gives seats back before this family, its base, may; None if there is none or it is done."""
    mends: frozenset[int] = frozenset()
    """Quantities that the provider confirmed to this very unit of work: where the CRM moved on meanwhile, it is set right."""

    @property
    def is_automatic(self) -> bool:
        """Whether linksub itself orders at the parent's provider."""
        return self.capabilities is not None and self.capabilities.automatic

    @property
    def is_manual(self) -> bool:
        """Whether a person orders. A provider that nothing is known of is neither."""
        return self.capabilities is not None and not self.capabilities.automatic

    @property
    def makes_parent_log(self) -> bool:
        """Whether linksub makes the parent's own log, because the CRM makes none and the policy lets it."""
        return self.parent_log is ParentLog.NONE and self.policy.parent_log == "create"


@dataclass(frozen=True, slots=True)
class Context:
    """The execution context of one step: target, pre-image, family snapshot, policy and now.

    ``target`` and ``child`` are set for log-scoped steps (the child row is the pre-image), ``left_behind`` is the first
    earlier open log of the same child that does not go in this pass. ``books`` are set from PreOperation on. ``accepted``,
    ``goal`` (the parent quantity that the accepted logs lead to) and ``at_provider`` (what the provider has, None if it
    does not report) are set for change-scoped steps.
    """

    snapshot: Snapshot
    env: Environment
    target: LicenseChangeLog | None = None
    child: Subscription | None = None
    left_behind: LicenseChangeLog | None = None
    books: SeatAccount | None = None
    accepted: tuple[LicenseChangeLog, ...] = ()
    goal: int = 0
    at_provider: int | None = None

    @property
    def policy(self) -> Policy:
        """The policy of the run."""
        return self.env.policy

    @property
    def now(self) -> datetime:
        """The instant of the decision."""
        return self.env.now

    @property
    def log(self) -> LicenseChangeLog:
        """The target of a log-scoped step."""
        assert self.target is not None
        return self.target

    @property
    def row(self) -> Subscription:
        """The child that the target belongs to."""
        assert self.child is not None
        return self.child

    @property
    def parent(self) -> Subscription:
        """The family's parent; only for steps that run after LS-010."""
        assert self.snapshot.parent is not None
        return self.snapshot.parent

    @property
    def delta(self) -> int:
        """Seats that the provider would gain (or lose) if the goal were set."""
        base = self.at_provider if self.at_provider is not None else (self.books.parent_settled if self.books else 0)
        return self.goal - base


@dataclass(frozen=True, slots=True)
class ChangeObjection:
    """What a change-scoped step returns: the objection, and the sign of the logs that offend (0: all of them)."""

    objection: Objection
    sign: int = 0


ChangeStep = Callable[[Context], ChangeObjection | None]
Step = Callable[[Context], "Objection | ChangeObjection | None"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One registered step. ``statement`` is one sentence; ``source`` names where it comes from.

    A guarantee says in ``kept_by`` what in the code keeps it (the ids of steps, or the part that does), or in
    ``missing`` what of it is not kept yet: a rule of the sources is listed even then, so that nobody has to guess.
    ``shown_by`` are tests that show it where a scenario cannot; scenarios name the rules that they show themselves.
    """

    id: str
    statement: str
    scope: Scope
    stage: Stage
    rank: int
    source: str
    message: Message = Message.UPDATE
    columns: tuple[str, ...] = ()
    severity: Severity = Severity.ERROR
    remedy: str = ""
    function: Step | None = None
    kept_by: str = ""
    missing: str = ""
    shown_by: tuple[str, ...] = ()
    looks_twice: bool = False
    """Whether what it finds may come of reading while somebody works: it is told only after a second look."""
    still_tells: bool = False
    """Whether a stop of this rule says nothing against what the provider side has confirmed: children are told that."""

    def __post_init__(self) -> None:
        if (self.function is None) != (self.scope is Scope.GUARANTEE):
            raise ValueError(f"{self.id}: a rule has a function, a guarantee has none")


def signed(rule: Rule, objection: Objection) -> Objection:
    """The objection with its rule's id and remedy, unless the step names the rule that is really broken, or a better remedy."""
    return replace(objection, rule=objection.rule or rule.id, remedy=objection.remedy or rule.remedy)


class RuleBook:
    """An immutable, ordered set of rules. Ids are unique; order is (stage, rank, id), the same on every run."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(sorted(rules, key=lambda rule: (rule.stage, rule.rank, rule.id)))
        seen: set[str] = set()
        for rule in self._rules:
            if rule.id in seen:
                raise ValueError(f"two rules are registered as {rule.id}")
            seen.add(rule.id)
        self._steps: dict[tuple[Scope, Stage | None], tuple[Rule, ...]] = {
            (scope, stage): tuple(rule for rule in self._rules if rule.scope is scope and stage in (None, rule.stage))
            for scope in Scope
            for stage in (None, *Stage)
        }

    def __iter__(self) -> Iterator[Rule]:
        return iter(sorted(self._rules, key=lambda rule: rule.id))

    def __len__(self) -> int:
        return len(self._rules)

    def get(self, rule_id: str) -> Rule | None:
        """A rule by id, without regard to case."""
        return next((rule for rule in self._rules if rule.id.casefold() == rule_id.casefold()), None)

    def steps(self, scope: Scope, stage: Stage | None = None) -> Iterator[Rule]:
        """The steps of one scope (and stage), in execution order."""
        return iter(self._steps[scope, stage])

    def first_objection(self, context: Context, scope: Scope, stage: Stage | None = None) -> Objection | None:
        """The first objection of the log- or family-scoped steps, signed; None if all agree."""
        for rule in self.steps(scope, stage):
            assert rule.function is not None
            found = rule.function(context)
            if found is not None:
                assert not isinstance(found, ChangeObjection), f"{rule.id} answers as a change-scoped step"
                return signed(rule, found)
        return None

    def notices(self, context: Context) -> tuple[Objection, ...]:
        """What the family-scoped PostOperation steps find worth telling, signed, in order."""
        found: list[Objection] = []
        for rule in self.steps(Scope.FAMILY, Stage.POST_OPERATION):
            assert rule.function is not None
            told = rule.function(context)
            if told is not None:
                assert not isinstance(told, ChangeObjection), f"{rule.id} answers as a change-scoped step"
                found.append(signed(rule, told))
        return tuple(found)

    def first_change_objection(self, context: Context) -> ChangeObjection | None:
        """The first objection of the change-scoped steps, signed; None if all agree."""
        for rule in self.steps(Scope.CHANGE):
            assert rule.function is not None
            found = rule.function(context)
            if found is not None:
                assert isinstance(found, ChangeObjection), f"{rule.id} must answer as a change-scoped step"
                return replace(found, objection=signed(rule, found.objection))
        return None

    def without(self, *rule_ids: str) -> RuleBook:
        """The book less some rules: for tests that show that each rule matters."""
        return RuleBook(rule for rule in self._rules if rule.id not in rule_ids)

    def extended(self, rules: Iterable[Rule]) -> RuleBook:
        """The book with more rules (those of other packages). Raises ValueError on a duplicate id."""
        return RuleBook((*self._rules, *rules))


def refuse(reason: str, remedy: str = "", **evidence: object) -> Refuse:
    """A refusal; the registry adds rule id and remedy."""
    return Refuse("", reason, evidence, remedy)


def hold(reason: str, remedy: str = "", *, retryable: bool = False, **evidence: object) -> Hold:
    """A hold; the registry adds rule id and remedy."""
    return Hold("", reason, evidence, remedy, retryable=retryable)


def wait(reason: str, until: datetime | None = None, remedy: str = "", **evidence: object) -> Wait:
    """A wait; the registry adds rule id and remedy."""
    return Wait("", reason, evidence, remedy, until=until)


def skip(reason: str, **evidence: object) -> Skip:
    """Not ours to push; the registry adds the rule id."""
    return Skip("", reason, evidence)
