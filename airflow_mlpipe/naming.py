"""Names that are valid where they are used and never collide.

- `path_segment` turns any text (a run id, say) into one portable path segment; `from_path_segment` is its inverse.
- `check_step_name` and `check_port_name` say what a user may call a step, and an input, output or parameter.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote, unquote

MAX_SEGMENT = 180
MAX_STEP_NAME = 200
MAX_PORT_NAME = 100

_STEP_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_PORT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def path_segment(text: str) -> str:
    """Return one path segment for a text: portable, never ``.`` or ``..``, different for different texts.

    Letters, digits, ``_`` and ``-`` stay; a dot stays except in front; the rest is percent-encoded with ``=`` for
    the percent sign. A text whose segment would exceed 180 characters is cut and ends in ``=~`` and its digest.
    """
    if not text:
        return "="
    encoded = quote(text, safe="").replace("~", "%7E").replace("%", "=")
    if encoded[0] == ".":
        encoded = "=2E" + encoded[1:]
    if len(encoded) <= MAX_SEGMENT:
        return encoded
    digest = hashlib.sha256(text.encode()).hexdigest()[:40]
    return f"{encoded[: MAX_SEGMENT - 42]}=~{digest}"


def from_path_segment(segment: str) -> str:
    """Return the text that `path_segment` was given.

    :raises ValueError: if the segment was cut, so that its text is not in it.
    """
    if segment == "=":
        return ""
    if "=~" in segment:
        message = f"the name behind {segment!r} was too long to be kept in a path"
        raise ValueError(message)
    return unquote(segment.replace("=", "%"), errors="strict")


def check_step_name(name: str) -> str | None:
    """Return what is wrong with the name of a step, pipeline or module, or None."""
    if len(name) > MAX_STEP_NAME:
        return f"a name has at most {MAX_STEP_NAME} characters, this one has {len(name)}"
    if not _STEP_NAME.match(name):
        return "a name consists of ASCII letters, digits, '_', '-' and '.', and begins with a letter, a digit or '_'"
    return None


def check_port_name(name: str) -> str | None:
    """Return what is wrong with the name of an input, an output or a parameter, or None."""
    if len(name) > MAX_PORT_NAME:
        return f"a name has at most {MAX_PORT_NAME} characters, this one has {len(name)}"
    if not _PORT_NAME.match(name):
        return "a name consists of ASCII letters, digits and '_', and does not begin with a digit"
    return None
