"""
Schedules of faults: from a script, or as typed at the command line.

A script is TOML; kinds and their members are those of `kinds`:

    [[fault]]
    kind = "drop"
    at_s = 20

    [[fault]]
    kind = "silence"
    market = "SOL-PERP"
    from_s = 15
    to_s = 25
"""

import math
import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import msgspec

from recorder.errors import ConfigError
from recorder.simulator.kinds import (
    KINDS,
    AnyFault,
    Drop,
    Fault,
    Garbage,
    Moment,
    Silence,
    Span,
    StopHeartbeats,
    WithholdFills,
    described,
    edges,
    kind_of,
)

__all__ = [
    "AnyFault",
    "Drop",
    "Fault",
    "Garbage",
    "Moment",
    "Silence",
    "Span",
    "StopHeartbeats",
    "WithholdFills",
    "edges",
    "faults_from_arguments",
    "read_script",
]

_CLOSE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})
"""Those that may stand in a close frame (RFC 6455, 7.4)."""
_AT_LEAST_ONE = ("every", "tick_ms", "late_ms", "lag_ms", "by_s", "after_s")


def read_script(path: Path) -> list[AnyFault]:
    """
    The faults of a TOML file.

    Raises:
        ConfigError: no such file, no TOML, an unknown kind or key, a wrong value.
    """
    try:
        members: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise ConfigError(file=str(path), key="--faults", problem=problem, allowed="give a TOML file") from None
    tables = members.pop("fault", [])
    if members or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problem = f"unknown key {next(iter(members))!r}" if members else "fault is no list of tables"
        raise ConfigError(file=str(path), key="--faults", problem=problem, allowed="give [[fault]] tables alone")
    faults = []
    for number, table in enumerate(tables, 1):
        faults.append(_fault(table, file=str(path), key=f"fault {number}"))
        _check(faults[-1], file=str(path), key=f"fault {number}")
    return faults


def faults_from_arguments(
    *,
    drop_at: Iterable[str] = (),
    silence: Iterable[str] = (),
    withhold_fills: Iterable[str] = (),
    stop_heartbeats: Iterable[str] = (),
    garbage: Iterable[str] = (),
    fault: Iterable[str] = (),
) -> list[AnyFault]:
    """
    Faults as typed at the command line.

    Args:
        drop_at: `20`, or `20/60`: at 20 s and each 60 s after it.
        silence: `SOL-PERP:15-25`, the books of a market (`*`: of all).
        withhold_fills: `SOL-PERP:15-25`.
        stop_heartbeats: `15-40`.
        garbage: `12:TEXT`.
        fault: `freeze market=SOL-PERP from_s=15 to_s=25`, any kind with the members of a script.

    Raises:
        ConfigError: an argument that cannot be read.
    """
    faults: list[AnyFault] = []
    for argument in drop_at:
        at, _, every = argument.partition("/")
        repeat = _seconds(every, argument, key="drop-at", allowed="give 20 or 20/60") if every else None
        faults.append(Drop(_seconds(at, argument, key="drop-at", allowed="give 20 or 20/60"), every_s=repeat))
    for argument in silence:
        market, from_s, to_s = _market_span(argument, key="silence")
        faults.append(Silence(from_s=from_s, to_s=to_s, market=market))
    for argument in withhold_fills:
        market, from_s, to_s = _market_span(argument, key="withhold-fills")
        faults.append(WithholdFills(from_s=from_s, to_s=to_s, market=market))
    for argument in stop_heartbeats:
        from_s, to_s = _span(argument, argument, key="stop-heartbeats", allowed="give FROM-TO in seconds, as 15-40")
        faults.append(StopHeartbeats(from_s=from_s, to_s=to_s))
    for argument in garbage:
        at, _, text = argument.partition(":")
        faults.append(Garbage(_seconds(at, argument, key="garbage", allowed="give 12:TEXT"), text=text))
    faults.extend(map(_any_fault, fault))
    for each in faults:
        _check(each, file="simulate", key=kind_of(each))
    return faults


def _any_fault(argument: str) -> AnyFault:
    kind, *words = argument.split() or [""]
    members: dict[str, object] = {"kind": kind}
    for word in words:
        name, _, value = word.partition("=")
        try:
            members[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            members[name] = value  # a bare word is text
    return _fault(members, file="simulate", key="--fault")


def _fault(members: dict[str, Any], *, file: str, key: str) -> AnyFault:
    kinds = {str(kind.__struct_config__.tag): kind for kind in KINDS}
    name = str(members.get("kind", ""))
    if name not in kinds:
        near = get_close_matches(name, kinds, n=1)
        hint = f", did you mean {near[0]}?" if near else ""
        problem = f"no kind {name!r}{hint}" if name else "names no kind"
        raise ConfigError(file=file, key=key, problem=problem, allowed=f"give one of {', '.join(sorted(kinds))}")
    takes = next(f"{name} takes {' '.join(takes)}" for kind, takes, _ in described() if kind == name)
    fields = {field.name: field for field in msgspec.structs.fields(kinds[name])}
    problem = next((f"{name} has no member {member!r}" for member in members if member not in {"kind", *fields}), "")
    for member, field in fields.items():
        if member not in members:
            problem = problem or (f"{name} lacks {member}" if field.required else "")
            continue
        try:
            msgspec.convert(members[member], field.type)
        except msgspec.ValidationError:
            problem = problem or f"{member} = {members[member]!r} is not {_what(field.type)}"
    if problem:
        raise ConfigError(file=file, key=key, problem=problem, allowed=f"{takes}; `simulate --help` tells of each")
    return msgspec.convert(members, AnyFault)  # type: ignore[no-any-return]


def _what(of: Any) -> str:  # noqa: ANN401  # an annotation
    """
    What a member may be, in words.
    """
    # A type, words to choose from, or either of them or nothing.
    options = [word for each in get_args(of) or (of,) for word in get_args(each) or (each,) if word is not NoneType]
    words = {float: "a number", int: "a whole number", str: "text"}
    return ", ".join(words.get(each, str(each)) for each in options)


def _market_span(argument: str, *, key: str) -> tuple[str, float, float]:
    allowed = "give MARKET:FROM-TO in seconds, as SOL-PERP:15-25"
    market, colon, span = argument.rpartition(":")
    if not colon or not market:
        raise ConfigError(file="simulate", key=key, problem=f"cannot read {argument!r}", allowed=allowed)
    from_s, to_s = _span(span, argument, key=key, allowed=allowed)
    return market, from_s, to_s


def _span(text: str, argument: str, *, key: str, allowed: str) -> tuple[float, float]:
    first, _, last = text.partition("-")
    return (
        _seconds(first, argument, key=key, allowed=allowed),
        _seconds(last, argument, key=key, allowed=allowed),
    )


def _seconds(text: str, argument: str, *, key: str, allowed: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(file="simulate", key=key, problem=f"cannot read {argument!r}", allowed=allowed) from None


def _check(fault: AnyFault, *, file: str, key: str) -> None:
    if isinstance(fault, Span):
        problem = f"from {fault.from_s:g} to {fault.to_s:g} s"
        wrong = not 0 <= fault.from_s < fault.to_s < math.inf
    else:
        problem = f"at {fault.at_s:g} s, again each {fault.every_s} s"
        wrong = not 0 <= fault.at_s < math.inf or (fault.every_s is not None and not 0 < fault.every_s < math.inf)
    for member in _AT_LEAST_ONE:
        value = getattr(fault, member, 1)
        if not 1 <= value < math.inf:
            wrong, problem = True, f"{member} = {value}"
    code = getattr(fault, "code", None)
    if code is not None and code not in _CLOSE_CODES:
        wrong, problem = True, f"code = {code}"
    if wrong:
        raise ConfigError(
            file=file,
            key=key,
            problem=problem,
            allowed="seconds from the start, from < to; every and durations >= 1; code 1000-1003, 1007-1014, 3000-4999",
        )
