"""What holds a run back, from the configuration and the command line: limits, kill switches, a saved plan."""

from __future__ import annotations

import os
from collections.abc import Mapping

from connector import __version__
from connector.domain.digest import digest
from connector.domain.policy import Limits
from connector.domain.safety import override
from connector.domain.saved import MadeWith, SavedPlan
from connector.errors import UsageError
from connector.mapping import CrmMapping, load_mapping
from connector.settings import Config
from connector.sync.safeguard import Safeguards, stale

STOP_FILE = "STOP"
"""In the state directory: as long as a file of this name is there, no run writes anything."""


def made_with(config: Config, operator: str, mapping: CrmMapping | None = None) -> MadeWith:
    """What a plan that is made now is made with. Raises ConfigError for a mapping that cannot be read."""
    content = (mapping or load_mapping(config.mapping)).model_dump(mode="json")
    return MadeWith(operator, __version__, config.decisive(), config.digest(), digest(content))


def allowed_limits(limits: Limits, allow: Mapping[str, str]) -> Limits:
    """The limits with what a person allows for one run. Raises UsageError for a limit or a value that is none."""
    for name, value in allow.items():
        try:
            limits = override(limits, name, value)
        except ValueError as error:
            raise UsageError(str(error), hint="--allow LIMIT=VALUE, such as --allow seats_added=200") from error
    return limits


def precautions(
    config: Config, mapping: CrmMapping, operator: str, saved: SavedPlan | None, allow: Mapping[str, str]
) -> Safeguards:
    """The safeguards of one run. Raises UsageError, and StalePlan when a plan was made with other settings."""
    limits = allowed_limits(config.policy.limits, allow)
    if saved is not None and (moves := saved.made_with.moves(made_with(config, operator, mapping))):
        raise stale(moves)
    file = config.state.directory / STOP_FILE

    def stop_here() -> str | None:
        return f"there is a file {file}" if os.path.lexists(file) else None

    return Safeguards(limits, stop_here, f"configuration row {mapping.settings.kill_switch}", allow, saved)
