"""What the unit of work keeps by the way it is built: rules without a function, each shown by a scenario or a test.

A rule of the sources that another step realises is listed here too, under its own number, and names that step.
"""

from __future__ import annotations

from connector.domain.rules.registry import Message, Rule, Scope, Severity, Stage


def kept(
    rule_id: str,
    statement: str,
    source: str,
    kept_by: str,
    *,
    shown_by: tuple[str, ...] = (),
    columns: tuple[str, ...] = (),
    message: Message = Message.UPDATE,
    stage: Stage = Stage.POST_OPERATION,
    severity: Severity = Severity.INFO,
    remedy: str = "",
    missing: str = "",
) -> Rule:
    """A guarantee: what is kept, and by what."""
    return Rule(
        rule_id,
        statement,
        Scope.GUARANTEE,
        stage,
        100,
        source,
        message=message,
        columns=columns,
        severity=severity,
        remedy=remedy,
        kept_by=kept_by,
        missing=missing,
        shown_by=shown_by,
    )


_CARRIED = "tests/unit/test_carried.py"
_CRM = "tests/contract/test_crm_repository.py"
_JOURNAL = "tests/unit/test_journal_port.py"
_PUSHING = "tests/contract/test_partner_center_writing.py"

RULES = (
    kept(
        "LS-001",
        "Only Awaiting logs are worked on, archived or not; other statuses are never touched.",
        "work365 facts §9.1",
        "the one query of a poll asks for the status alone, and decide() judges Awaiting logs only",
        columns=("status",),
        stage=Stage.PRE_VALIDATION,
    ),
    kept(
        "LS-006",
        "Logs are taken in the order of effective instant, created on and id: the same on every run.",
        "work365 facts §9.6",
        "seats.order_key, by which every list of logs is sorted before it is judged",
        columns=("effective_date", "provision_on", "created_on"),
        stage=Stage.PRE_VALIDATION,
        shown_by=(
            "tests/unit/test_decide.py"
            "::test_deciding_twice_on_the_same_world_gives_the_same_answer_whatever_the_order_of_rows",
        ),
    ),
    kept(
        "LS-007",
        "One family is worked on by one worker at a time; whoever comes second finds what the first one left.",
        "work365 facts §9.7",
        "the lease of a family in the journal, and the run lock of a state directory",
        stage=Stage.PRE_OPERATION,
        shown_by=(
            f"{_JOURNAL}::test_a_lease_keeps_others_out_and_names_its_holder",
            "tests/fault/test_journal_faults.py::test_the_run_lock_keeps_another_process_out_and_dies_with_its_holder",
        ),
    ),
    kept(
        "LS-022",
        "A child's change is pushed as one parent change, one provider change, the parent's log and then the child's.",
        "work365 facts §9.22",
        "the order of the actions that decide() returns",
        columns=("quantity",),
    ),
    kept(
        "LS-023",
        "Of the parent only quantity and marker are written; its log is the CRM's to make, and linksub's only where the CRM"
        " makes none and the policy says so.",
        "work365 facts §9.23; design §4 step 5, §4.2",
        "FamilyChange of the Crm port, which has nothing else; policy.parent_log with work365.parent_log: none",
        columns=("quantity", "order_reference"),
    ),
    kept(
        "LS-024",
        "The provider is read, told an absolute quantity under the version that was read, and read again after a 412.",
        "work365 facts §9.24",
        "providers.partner_center (If-Match) and sync.provisioning (read back, compare, decide again)",
        shown_by=(
            f"{_PUSHING}::test_a_change_sends_the_whole_resource_back_with_one_field_changed",
            f"{_PUSHING}::test_if_match_is_sent_in_quotes_and_only_when_the_resource_carries_an_etag",
        ),
    ),
    kept(
        "LS-025",
        "A provider that has the target already gets no change: the logs are acknowledged, and a second run does nothing.",
        "work365 facts §9.25 (error E11)",
        "absolute targets: SetProviderQuantity is only planned where the numbers differ",
    ),
    kept(
        "LS-026",
        "After a death between parent and provider the next run finds what the parent carries and adds nothing twice.",
        "work365 facts §9.26; design §4 step 1, §4.2",
        "the marker on the parent's row, written in the same request as its quantity; at rest a person's text is back",
        columns=("order_reference",),
    ),
    kept(
        "LS-027",
        "Changes that are due together are netted; with netting off, increases go first and decreases after them.",
        "work365 facts §9.27",
        "decide(): the sum of what is accepted is the target; policy.netting",
        columns=("quantity",),
    ),
    kept(
        "LS-028",
        "However many children change, their parent's subscription at the provider is changed at most once in a round.",
        "work365 facts §9.28",
        "netting: one target for each family and round, and a result for each child's log",
        columns=("quantity",),
    ),
    kept(
        "LS-030",
        "Nothing flows down: no parent's or provider's number is ever written to a child, nor a provider's to a parent.",
        "work365 facts §9.30; seed Linked Subscriptions",
        "the actions there are: none writes a child's quantity, and the parent's comes from its children alone",
        columns=("quantity",),
    ),
    kept(
        "LS-031",
        "When the provider has confirmed, the parent's log becomes Provisioned and then, in the same step, its children's.",
        "work365 facts §9.31",
        "Acknowledge: one atomic change set, the parent's logs first",
        columns=("status",),
    ),
    kept(
        "LS-032",
        "A manual parent gets its quantity and log, no provider is called, and the children follow a person's confirmation.",
        "work365 facts §9.32",
        "decide(): for a provider that a person serves it plans no provider change and waits for the parent's log",
        columns=("quantity", "status"),
        remedy="provision the seats at the provider, then set the parent's log to Provisioned",
    ),
    kept(
        "LS-033",
        "A final no of the provider makes the parent's log Failed with its text; the children's stay Awaiting.",
        "work365 facts §9.33",
        "the unit of work: the failure is the parent's (policy.child_when_parent_fails), and LS-005 blocks what follows",
        columns=("status", "message"),
        severity=Severity.ERROR,
        remedy="mend the cause, then set the parent's log to Awaiting Provisioning; the children follow by themselves",
    ),
    kept(
        "LS-034",
        "A busy or throttled provider is tried again, after two minutes on a conflict, and given up after five tries.",
        "work365 facts §9.34 (errors E3, E20, E23)",
        "sync.provisioning (MAX_TRIES) and the waits of providers.partner_center.codes",
        severity=Severity.WARNING,
        remedy="if it was given up: look at the subscription in Partner Center, then set the parent's log to Awaiting",
        shown_by=(f"{_PUSHING}::test_a_busy_subscription_says_how_long_to_leave_it_alone",),
    ),
    kept(
        "LS-036",
        "A netted batch succeeds or fails as one: its children carry the same state and the same reason.",
        "work365 facts §9.36",
        "one provider change for the batch, and one atomic change set for its logs",
        columns=("status", "message"),
    ),
    kept(
        "LS-037",
        "A child that is deactivated takes its seats off the parent, under the rules for any decrease.",
        "work365 facts §9.37",
        "an inactive child counts as nothing, and its deactivation log is a decrease like others (LS-016 to LS-018)",
        message=Message.SET_STATE,
        columns=("state", "quantity"),
    ),
    kept(
        "LS-038",
        "A child that is activated again brings its seats back to the parent.",
        "work365 facts §9.38",
        "its activation log is an increase like others",
        message=Message.SET_STATE,
        columns=("state", "quantity"),
    ),
    kept(
        "LS-039",
        "Switching a child from Do Nothing to Linked pushes nothing by itself.",
        "work365 facts §9.39; seed Linked Subscriptions (setup)",
        "only Awaiting logs are pushed, never a difference of sums",
        message=Message.ASSOCIATE,
        columns=("provider", "linked_parent"),
    ),
    kept(
        "LS-040",
        "Linking a child to another parent pushes nothing by itself; what no longer adds up is held on both (LS-015).",
        "work365 facts §9.40",
        "only Awaiting logs are pushed, never a difference of sums",
        message=Message.ASSOCIATE,
        columns=("linked_parent",),
    ),
    kept(
        "LS-041",
        "Dated increases take place at 00:05 and decreases at 23:30 of the tenant's time zone, UTC if none is set.",
        "work365 facts §9.41; seed Subscription Management",
        "domain.calendar, exact through changes of summer time; LS-009 makes a change wait for its instant",
        columns=("effective_date", "provision_on"),
        stage=Stage.PRE_VALIDATION,
    ),
    kept(
        "LS-042",
        "A change dated today is a log and is pushed; a future one is a scheduled change, seen and never pushed early.",
        "work365 facts §9.42; seed Subscription Management",
        "a scheduled change is read to be shown only; Work 365 makes its log on the date, and that log is pushed",
        message=Message.CREATE,
        columns=("effective_date", "provision_on"),
        stage=Stage.PRE_VALIDATION,
    ),
    kept(
        "LS-043",
        "A change of seats keeps what the provider holds for the renewal: it is read before and written back, moved by as"
        " many seats.",
        "work365 facts §9.43; Partner Center facts §6.5",
        "sync.renewal, through the journal; a change that cannot be written back is reported as lost, the seats stand",
        columns=("quantity",),
        severity=Severity.WARNING,
        remedy="schedule the renewal change again in Partner Center",
        shown_by=(
            f"{_PUSHING}::test_a_lost_schedule_is_written_back_adjusted_and_verified",
            f"{_PUSHING}::test_a_schedule_that_a_person_made_meanwhile_stands",
        ),
    ),
    kept(
        "LS-045",
        "A decrease dated inside the window whose 23:30 lies after the provider's UTC deadline is refused beforehand.",
        "work365 facts §9.45, §5.2",
        "LS-017, which compares the deadline with the instant of the run",
        columns=("provision_on", "quantity"),
        stage=Stage.PRE_OPERATION,
        severity=Severity.ERROR,
        remedy="date the decrease one day earlier, repeat it at the renewal, or move the seats to another location",
    ),
    kept(
        "LS-046",
        "No log and no subscription is ever deleted or deactivated.",
        "work365 facts §9.46",
        "the Dataverse client and the Crm port have no such call",
        message=Message.SET_STATE,
        shown_by=("tests/contract/test_dataverse_client.py::test_the_client_has_no_delete_call",),
    ),
    kept(
        "LS-047",
        "Of a log, archived or not, only provisioning status, message and provisioned-on are written.",
        "work365 facts §9.47",
        "LogUpdate, which has no other column",
        columns=("status", "message", "provisioned_on"),
        shown_by=(f"{_CRM}::test_logs_are_acknowledged_in_order_in_one_change_set",),
    ),
    kept(
        "LS-048",
        "A dry run shows parent, old and new number, logs and reasons, and writes nothing anywhere.",
        "work365 facts §9.48",
        "the same pass as a real run up to the plan, with a journal in memory",
        shown_by=(
            "tests/scenario/test_passes.py"
            "::test_a_dry_run_sends_no_write_leaves_the_state_alone_and_plans_what_the_next_run_does",
        ),
    ),
    kept(
        "LS-050",
        "Numbers of choices and names of columns come from the organisation's metadata; an unknown label stops the run.",
        "work365 facts §9.50; design §6",
        "the mapping holds labels only, and crm.metadata resolves them or refuses with everything that is missing",
        stage=Stage.PRE_VALIDATION,
        severity=Severity.ERROR,
        remedy="compare the mapping with the tables and choices of your CRM",
        shown_by=(
            f"{_CRM}::test_everything_that_the_organisation_lacks_is_said_at_once",
            f"{_CRM}::test_labels_are_compared_without_regard_to_case_and_synonyms_are_accepted",
        ),
    ),
    kept(
        "LS-051",
        "An audit lists what does not fit between logs, children, parents and provider, and fails on any error.",
        "work365 facts §9.51",
        "",
        missing="there is no audit command yet; drift that stands in the way of a change is held and shown by a run",
    ),
    kept(
        "LS-053",
        "Partner Center gets fewer than 500 requests per minute and tenant, and one subscription not too many changes.",
        "work365 facts §9.53",
        "the rate gate of the transport; netting; changes are counted and told from 1,000 on",
        shown_by=(
            "tests/contract/test_transport_gate.py::test_at_most_so_many_leave_in_any_minute",
            "tests/scenario/test_passes.py::test_a_person_is_told_before_a_subscription_has_had_too_many_changes",
        ),
    ),
    kept(
        "LS-061",
        "A raise carries as many changes as the marker's column has room to name, and to take back; the rest goes in the next.",
        "design §4.2",
        "decide(): the length of the marker with the new group, and with one that takes it back",
        columns=("order_reference",),
        shown_by=(
            "tests/unit/test_decide.py"
            "::test_a_pass_carries_only_as_many_changes_as_the_marker_names_and_the_rest_follows",
        ),
    ),
    kept(
        "LS-063",
        "A decrease is not promised for the renewal over another change that somebody else has scheduled there.",
        "design §4; Partner Center facts §6.5",
        "decide(): it schedules only where nothing, or what it scheduled itself, is held for the renewal",
        columns=("quantity",),
        stage=Stage.PRE_OPERATION,
        severity=Severity.ERROR,
        remedy="settle the scheduled change in Partner Center; the decrease then goes by itself",
    ),
    kept(
        "LS-068",
        "A run whose plan goes beyond a safety limit stops before its first write; what was asked for stays as it is.",
        "design §8",
        "domain.safety, judged over the whole plan before any family is started (exit code 4)",
        columns=("quantity",),
        stage=Stage.PRE_OPERATION,
        severity=Severity.ERROR,
        remedy="look at the plan; if it is right, raise that one limit under policy.limits,"
        " or allow it once: linksub apply FILE --allow LIMIT=VALUE",
    ),
    kept(
        "LS-075",
        "A journal that does not know what the parent's row names is another's or an older one: that is said, and it is not"
        " believed.",
        "design §4.2, §5",
        "sync.knowledge: markers that this journal noted, held against the row",
        stage=Stage.PRE_OPERATION,
        severity=Severity.WARNING,
        remedy="if several hosts work on one organisation, give them one journal (state.url)",
    ),
    kept(
        "LS-076",
        "While an order has no answer, no order for another number goes to that subscription for fifteen minutes.",
        "design §5 item 4",
        "sync.ordering: open intents of the family (the same number may go again at once, under a new request id)",
        stage=Stage.PRE_OPERATION,
        severity=Severity.WARNING,
        remedy="nothing to do: it goes by itself after that time",
    ),
    kept(
        "LS-077",
        "A read of the provider that contradicts what it confirmed shortly before, without a cause, is read again.",
        "design §5 items 3 and 4",
        "sync.ordering: the last confirmed order of the family, for fifteen minutes",
        stage=Stage.PRE_OPERATION,
        severity=Severity.WARNING,
        remedy="nothing to do: it is read again until the provider shows what it confirmed, or fifteen minutes are over",
    ),
    kept(
        "LS-078",
        "Seats that are ordered and given back for one family within a day are bounded, over all runs.",
        "design §5, §8",
        "sync.ordering: policy.limits.seats_per_family_and_day, counted in the journal",
        columns=("quantity",),
        stage=Stage.PRE_OPERATION,
        severity=Severity.ERROR,
        remedy="find out what moves it back and forth (linksub journal list); if it is right, raise"
        " policy.limits.seats_per_family_and_day",
    ),
    kept(
        "LS-079",
        "After an order without an answer the family is looked at for a day, idle or not; an order that arrives late is told.",
        "design §5 item 4",
        "sync.run selects what the journal watches; sync.endings compares provider and parent",
        stage=Stage.POST_OPERATION,
        severity=Severity.ERROR,
        remedy="set the quantity back in Partner Center, or let the next change of a child do it",
    ),
    kept(
        "LS-069",
        "While a kill switch is on, in the CRM or in the state directory, no family is started.",
        "design §8; reliability facts",
        "sync.safeguard, which looks again before each family",
        stage=Stage.PRE_VALIDATION,
        severity=Severity.WARNING,
        remedy="find out why it was set, then set it off",
    ),
    kept(
        "LS-071",
        "A carried change that a person stops is taken back, and nothing is raised before raise and take-back are settled.",
        "design §4.2",
        "decide(): take_back, and what waits while the books are halfway",
        columns=("quantity", "status"),
        shown_by=(
            f"{_CARRIED}::test_a_failed_carried_change_is_taken_back_and_its_siblings_go_on",
            f"{_CARRIED}::test_between_a_raise_and_its_take_back_nothing_is_raised",
        ),
    ),
)
