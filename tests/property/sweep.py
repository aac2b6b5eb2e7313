"""Many more random worlds than a test run has time for: ``python -m tests.property.sweep 200000 [first seed]``."""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial

from tests.property.checks import ANYTHING, CRASHES
from tests.property.worlds import Rolled, anything


def sweep(worlds: int, first: int = 0) -> Counter[str]:
    """Half of the worlds for the checks of any world, half for the crash points; what failed, with a seed for each."""
    failed: Counter[str] = Counter()
    for seed in range(first, first + worlds):
        if seed % 2:
            jobs = [(check.__name__, partial(check, Rolled(seed), anything(Rolled(seed)))) for check in ANYTHING]
        else:
            crash = CRASHES[seed // 2 % len(CRASHES)]
            jobs = [(crash.__name__, partial(crash, Rolled(seed)))]
        for name, job in jobs:
            try:
                job()
            except Exception as error:  # noqa: BLE001  whatever a world breaks is reported with its seed
                failed[name] += 1
                if failed[name] <= 3:
                    sys.stdout.write(f"{name}, seed {seed}: {type(error).__name__}: {str(error)[:300]}\n")
    return failed


if __name__ == "__main__":
    count, start = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    found = sweep(count, start)
    sys.stdout.write(f"{count} worlds from seed {start}: {dict(found) or 'nothing failed'}\n")
    sys.exit(bool(found))
