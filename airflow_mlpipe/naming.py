"""Names that are valid where they are used and never collide.

- `path_segment` turns any text (a run id, say) into one portable path segment; `from_path_segment` is its inverse.
- `object_name` names an object of Kubernetes, or a container, after several texts, `label_value` is what of a text fits into a label.
- `check_step_name` and `check_port_name` say what a user may call a step, and an input, output or parameter.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote, unquote

MAX_SEGMENT = 180
MAX_STEP_NAME = 200
MAX_OBJECT_NAME = 63
MAX_LABEL = 63
MAX_PORT_NAME = 100

_STEP_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_NO_OBJECT_NAME = re.compile(r"[^a-z0-9]+")
_NO_LABEL = re.compile(r"[^A-Za-z0-9_.-]+")
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?\Z")
_DIGITS = 16
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


def object_name(shown: str, *identity: str, room: int = 0) -> str:
    """Return a name for an object of Kubernetes: a DNS label, the same for the same texts, different for others.

    :param shown: what of it a person shall recognise; what does not fit is left out.
    :param identity: tells objects apart together with it.
    :param room: how many characters shall be free for an ending.
    """
    digest = hashlib.sha256("".join(f"{len(text)}:{text}" for text in (shown, *identity)).encode()).hexdigest()
    readable = _NO_OBJECT_NAME.sub("-", shown.lower()).strip("-")
    kept = readable[: MAX_OBJECT_NAME - room - _DIGITS - len("mlpipe--")].strip("-") or "step"
    return f"mlpipe-{kept}-{digest[:_DIGITS]}"


def label_value(text: str) -> str:
    """Return a text as the value of a label of Kubernetes; one that does not fit is cut and ends in its digest."""
    if len(text) <= MAX_LABEL and _LABEL.match(text):
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    kept = _NO_LABEL.sub("-", text)[: MAX_LABEL - _DIGITS - 1].strip("-_.")
    return f"{kept}-{digest}" if kept else digest


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
