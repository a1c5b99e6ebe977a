"""Why a step runs: the difference of two sets of components, in words.

Pure. `differences` compares what is bound now with what an earlier record was made from; `sentence` says one of the
differences as a person would.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_mlpipe.fingerprint import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PartsOf: TypeAlias = "Callable[[str], Mapping[str, str] | None]"
"""What a digest stands for: the files of a code snapshot, path -> digest (and mode), or the packages of a lock,
name -> version; None where that is gone."""

_DIGEST = re.compile(r"(registry:|engine:)?sha256:([^ ]*)(.*)\Z", re.DOTALL)
_SHOWN_DIGEST = 12
_MAX_FILES = 20
_MAX_TRIALS = 3


@dataclass(frozen=True)
class Reason:
    """One cause of a decision.

    ``component`` is the component of the fingerprint that differs, or the circumstance (``record``, ``outputs``,
    ``regenerate_outputs``, ``allow_reuse``, ``destination``, ``wait``, ``image``, ``run_if``, ``upstream``). ``what`` names the part that differs: a file,
    a parameter, an input. ``old`` and ``new`` are its two values, None where there is none.
    """

    component: str
    what: str
    old: str | None = None
    new: str | None = None


def dump_reasons(reasons: Sequence[Reason]) -> list[dict[str, str | None]]:
    """Return reasons as plain JSON data."""
    return [{"component": r.component, "what": r.what, "old": r.old, "new": r.new} for r in reasons]


def load_reasons(data: Sequence[Mapping[str, Any]]) -> tuple[Reason, ...]:
    """Return the reasons that `dump_reasons` wrote."""
    return tuple(Reason(**item) for item in data)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], parts_of: PartsOf) -> tuple[Reason, ...]:
    """Return what differs between two sets of components, in the order a reader wants: code first.

    :param parts_of: gives the files of a snapshot and the packages of a lock, so that what changed is named.
    """
    reasons: list[Reason] = []
    order = ("kind", "command", "code", "environment", "inputs", "parameters", "run", "outputs")
    for name in (*order, *sorted((old.keys() | new.keys()) - set(order))):
        before, now = old.get(name), new.get(name)
        if encode(before) == encode(now):
            continue
        if name == "code":
            reasons += _code(before, now, parts_of)
        elif name == "environment":
            reasons += _environment(before or {}, now or {}, parts_of)
        elif name == "sweep":
            reasons += _sweep(before or {}, now or {})
        elif isinstance(before, Mapping) and isinstance(now, Mapping):
            reasons += _entries(name, before, now)
        else:
            what = "" if name == "distribution" else name
            reasons.append(Reason(name, what, _shown(before), _shown(now)))
    return tuple(reasons)


def _code(before: str | None, now: str | None, parts_of: PartsOf) -> Iterator[Reason]:
    old = parts_of(before) if before else {}
    new = parts_of(now) if now else {}
    if old is None or new is None:
        yield Reason("code", "source directory", _shown(before), _shown(now))
        return
    changed = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
    for path in changed[:_MAX_FILES]:
        yield Reason("code", path, _shown(old.get(path)), _shown(new.get(path)))
    if len(changed) > _MAX_FILES:
        yield Reason("code", f"and {len(changed) - _MAX_FILES} more files")


def _sweep(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Reason]:
    before, now = (each.get("trials", ()) for each in (old, new))
    known, wanted = {encode(trial) for trial in before}, {encode(trial) for trial in now}
    for trials, others, word in ((now, known, "new"), (before, wanted, "gone")):
        changed = [str(_shown(trial)) for trial in trials if encode(trial) not in others]
        if changed:
            more = f"; and {len(changed) - _MAX_TRIALS} more" if len(changed) > _MAX_TRIALS else ""
            named = "; ".join(changed[:_MAX_TRIALS])
            counted = "1 trial is" if len(changed) == 1 else f"{len(changed)} trials are"
            yield Reason("trials", f"{counted} {word} ({named}{more})")
    if known == wanted and encode(before) != encode(now):
        yield Reason("trials", "its trials are in another order")
    old, new = ({key: each[key] for key in each if key != "trials"} for each in (old, new))
    yield from _entries("sweep", old, new)


def _environment(old: Mapping[str, Any], new: Mapping[str, Any], parts_of: PartsOf) -> Iterator[Reason]:
    locks = [environment.get("lock") for environment in (old, new)]
    before, now = (parts_of(lock) if lock else None for lock in locks)
    changed = [] if before is None or now is None else list(_entries("software", before, now))
    left_out = {"lock"} if changed else set()
    kept_old, kept_new = ({key: e[key] for key in e.keys() - left_out} for e in (old, new))
    yield from _entries("environment", kept_old, kept_new)
    yield from changed[:_MAX_FILES]
    if len(changed) > _MAX_FILES:
        yield Reason("software", f"and {len(changed) - _MAX_FILES} more packages")


def _entries(component: str, old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[Reason]:
    for key in sorted(old.keys() | new.keys()):
        before, now = old.get(key), new.get(key)
        if encode(before) == encode(now) and (key in old) == (key in new):
            continue
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            yield from _entries(component, before, now, f"{prefix}{key}.")
        else:
            yield Reason(
                component,
                prefix + key,
                _shown(before) if key in old else None,
                _shown(now) if key in new else None,
            )


def _shown(value: object) -> str | None:  # noqa: PLR0911 -- one case a type
    """Return a value as a person reads it: digests short, booleans and numbers as written in YAML."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case str() if found := _DIGEST.match(value):
            whose, digest, rest = found.groups()
            return (whose or "") + digest[:_SHOWN_DIGEST] + rest
        case str():
            return value
        case Mapping():
            return ", ".join(f"{key}={_shown(item)}" for key, item in sorted(value.items()))
        case list() | tuple():
            return " ".join(_argument(item) for item in value)
        case _:
            return repr(value)


def _argument(item: object) -> str:
    if isinstance(item, list | tuple):
        return "".join(_argument(part) for part in item)
    if isinstance(item, Mapping):
        ((kind, name),) = item.items()
        return f"<{kind} {name}>" if name else f"<{kind}>"
    return str(item)


_SUBJECTS = {
    "kind": "kind of step",
    "command": "command",
    "inputs": "input {what}",
    "parameters": "parameter {what}",
    "run": "run.{what}",
    "environment": "environment {what}",
    "software": "{what}",
    "destination": "destination of {what}",
    "data": "{what}",
    "sweep": "sweep {what}",
    "distribution": "distribution {what}",
}


def sentence(reason: Reason) -> str:
    """Return one reason as a short clause: ``parameter c: 1.0 -> 0.5``, ``train/utils.py changed``."""
    match reason.component:
        case "code":
            return _code_sentence(reason)
        case (
            "record"
            | "outputs"
            | "regenerate_outputs"
            | "allow_reuse"
            | "wait"
            | "image"
            | "run_if"
            | "upstream"
            | "trials"
        ):
            return reason.what
    subject = _SUBJECTS.get(reason.component, reason.component).format(what=reason.what).rstrip()
    if (reason.old is None) == (reason.new is None) and (reason.old is None or reason.component == "inputs"):
        return f"{subject} changed"  # two digests would tell a person nothing
    if reason.old is None:
        return f"{subject} is new: {reason.new}"
    if reason.new is None:
        return f"{subject} is gone (was {reason.old})"
    return f"{subject}: {reason.old} -> {reason.new}"


def _code_sentence(reason: Reason) -> str:
    if reason.old is None and reason.new is None:
        return reason.what
    if reason.old is None:
        return f"{reason.what} is new"
    return f"{reason.what} is gone" if reason.new is None else f"{reason.what} changed"


def summary(reasons: Sequence[Reason], limit: int = 3) -> str:
    """Return reasons in one line: the first few, and how many more there are."""
    clauses = [sentence(reason) for reason in reasons]
    more = len(clauses) - limit
    return "; ".join(clauses[:limit]) + (f"; and {more} more" if more > 0 else "")
