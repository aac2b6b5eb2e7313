"""Nothing is sent on what was read before a pause: a person may have been at the provider while we waited."""

from __future__ import annotations

import pytest

from tests.harness.bench import Bench
from tests.harness.faults import Fault, Kind
from tests.harness.oracle import violations
from tests.harness.records import Trouble, describe
from tests.harness.stories import EDITS, STORIES


@pytest.mark.usefixtures("quiet_logs")
@pytest.mark.parametrize("kind", [Kind.LOST_REQUEST, Kind.ERROR_NOT_DONE], ids=str)
def test_a_persons_edit_during_the_pause_after_a_lost_purchase_is_not_overwritten(
    kind: Kind,
) -> None:
    bench = Bench(STORIES["increase"])
    undisturbed = bench.run(Trouble())
    [purchase] = {
        event.call
        for event in undisturbed.history.events
        if event.actor == "connector" and "partner_center" in str(event)
    }
    for edit in EDITS:
        for position in range(purchase, purchase + 5):
            run = bench.run(Trouble((Fault(purchase, kind),), edit, position))
            complaints = violations(run) if run.edited else []
            assert not complaints, describe(run, complaints)
