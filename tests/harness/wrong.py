"""The bench with connectors that are wrong on purpose (see `tests.support.wrong`). The harness must find every one out.

Left alone, all three do what is right: only a fault or a person at the wrong moment shows what they are.
"""

from __future__ import annotations

from tests.harness.bench import Bench
from tests.support.wrong import ACKNOWLEDGES_FIRST, APPLIES_DELTAS, BLIND_RETRY


class DeltaBench(Bench):
    """Runs the connector that applies deltas."""

    wrong = APPLIES_DELTAS


class AcknowledgeFirstBench(Bench):
    """Runs the connector that acknowledges first."""

    wrong = ACKNOWLEDGES_FIRST


class BlindRetryBench(Bench):
    """Runs the connector that sends a lost write again without looking."""

    wrong = BLIND_RETRY
