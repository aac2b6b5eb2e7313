"""A saved plan as a file: JSON that a person can read and that refuses to be edited.

The digest at the end is over the canonical form of everything before it. It finds edits and damage; it is no signature:
whoever may write the file could also compute it, so the file belongs where only its owner writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from connector.domain.digest import digest
from connector.domain.model import SubscriptionId
from connector.domain.saved import MadeWith, SavedFamily, SavedPlan
from connector.errors import ConfigError
from connector.report.document import plan_document
from connector.report.inert import to_json
from connector.report.wording import instant
from connector.sync.outcome import RunResult

KIND = "linksub plan"
SCHEMA_VERSION = 1
LIFETIME = timedelta(hours=24)
LONGEST_LIFETIME = timedelta(days=30)
MAX_BYTES = 512 * 1024 * 1024


def plan_file(result: RunResult, made_with: MadeWith, lifetime: timedelta = LIFETIME) -> Mapping[str, Any]:
    """The document of a plan file. ``result`` is a dry run that kept its inputs; the clock is the run's."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "created_at": instant(result.started_at),
        "expires_at": instant(result.started_at + lifetime),
        "created_by": made_with.created_by,
        "linksub_version": made_with.version,
        "run_id": result.run_id,
        "time_zone": result.time_zone,
        "config_digest": made_with.settings_digest,
        "mapping_digest": made_with.mapping_digest,
        "settings": dict(made_with.settings),
        "plan": plan_document(result.plan),
        "families": [
            {
                "family": family.family,
                "name": family.name,
                "read_as": family.read_as,
                "read_with_parent": family.read_with_parent,
                "input_digest": digest(family.inputs),
                "inputs": family.inputs,
                "actions": list(family.actions),
            }
            for family in result.saved_families
        ],
    }
    plain: dict[str, Any] = json.loads(json.dumps(content, default=str, allow_nan=False))
    return {**plain, "digest": digest(plain)}


def render(document: Mapping[str, Any]) -> str:
    """The text of a plan file."""
    return to_json(document, indent=1) + "\n"


def is_plan_file(raw: bytes) -> bool:
    """Whether a file says of itself that it is a saved plan; it may still be damaged."""
    return len(raw) <= MAX_BYTES and f'"kind": "{KIND}"'.encode() in raw[:400]


def read_plan_file(raw: bytes, name: str) -> SavedPlan:
    """The plan in a file. Raises ConfigError for what is no plan file, was edited or damaged, or is of another form."""
    document = _parsed(raw, name)
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise ConfigError(f"{name} is no plan file", hint="linksub plan --out FILE writes one")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"{name} is a plan file of form {version!r}; this linksub knows form {SCHEMA_VERSION}",
            hint="apply it with the linksub that made it, or make a new plan",
        )
    stated = document.pop("digest", None)
    if stated != digest(document):
        raise ConfigError(
            f"{name} was changed after it was made: its digest does not fit its content",
            hint="a plan is never edited; make a new one: linksub plan --out FILE",
        )
    try:
        return SavedPlan(
            str(stated),
            _instant(document["created_at"]),
            _instant(document["expires_at"]),
            MadeWith(
                str(document["created_by"]),
                str(document["linksub_version"]),
                _mapping(document["settings"]),
                str(document["config_digest"]),
                str(document["mapping_digest"]),
            ),
            tuple(_family(entry) for entry in _list(document["families"])),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{name} is a plan file that lacks something ({type(error).__name__}: {error})", hint="make a new plan"
        ) from error


def _family(entry: Mapping[str, Any]) -> SavedFamily:
    family = SavedFamily(
        SubscriptionId(str(entry["family"])),
        str(entry["name"]),
        SubscriptionId(str(entry["read_as"])),
        entry["read_with_parent"] is True,
        {str(group): _mapping(values) for group, values in _mapping(entry["inputs"]).items()},
        tuple(_mapping(action) for action in _list(entry["actions"])),
    )
    if entry["input_digest"] != digest(family.inputs):
        raise ValueError(f"the inputs of {family.name} do not fit their digest")
    return family


def _parsed(raw: bytes, name: str) -> Any:
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{name} is too large for a plan file", hint="is this the right file?")
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_once)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{name} is no plan file: it is not JSON", hint="linksub plan --out FILE writes one"
        ) from error


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("an object was expected")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("a list was expected")
    return value


def _instant(value: Any) -> datetime:
    found = datetime.fromisoformat(str(value))
    if found.tzinfo is None:
        raise ValueError("an instant without a time zone")
    return found
