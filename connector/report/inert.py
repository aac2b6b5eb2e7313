"""Text from outside, made inert: on a terminal it is one line of plain characters, in JSON it hides nothing.

A customer's name, a provider's error text or a note must not be able to repaint the screen, to start a new line, or to
make one number look like another, wherever it is shown. Source: OWASP, "Logging Cheat Sheet" and "Injection Prevention".
"""

from __future__ import annotations

import json
import re

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: titles, links, clipboard
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?"  # DCS, SOS, PM, APC
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor
    r"|\x1b[ -/]*[0-~]?"  # anything else that starts with ESC
)
_SPACES = re.compile(r"[\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_HIDDEN_IN_JSON = re.compile(r"[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def strip_controls(text: str) -> str:
    """Text from outside on one line, without terminal escapes, control characters or hidden writing direction."""
    return _CONTROLS.sub("", _SPACES.sub(" ", _ESCAPES.sub("", text)))


def to_json(document: object, *, indent: int | None = None) -> str:
    """JSON that carries every value whole and that a terminal can show: what is invisible stands as ``\\uXXXX``.

    Readable letters stay as they are; without ``indent`` the result is one line. What JSON has no form for is shown as
    its text.
    """
    text = json.dumps(document, ensure_ascii=False, indent=indent, default=str)
    # Such characters stand within strings only, so that the escape is always valid there.
    return _HIDDEN_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
