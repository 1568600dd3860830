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
from pathlib import Path
from typing import Any

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


class _Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fault: list[AnyFault] = []


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
    try:
        script = msgspec.convert(members, _Script)
    except msgspec.ValidationError as error:
        raise ConfigError(
            file=str(path), key="fault", problem=str(error), allowed=f"kinds are {_kinds()}; see `simulate --help`"
        ) from None
    for number, fault in enumerate(script.fault, 1):
        _check(fault, file=str(path), key=f"fault {number}")
    return script.fault


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
    kind, *words = argument.split()
    members: dict[str, object] = {"kind": kind}
    for word in words:
        name, _, value = word.partition("=")
        try:
            members[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            members[name] = value  # a bare word is text
    try:
        fault: AnyFault = msgspec.convert(members, AnyFault)
    except msgspec.ValidationError as error:
        raise ConfigError(
            file="simulate",
            key="fault",
            problem=f"cannot read {argument!r}: {error}",
            allowed=f"give KIND member=value …; kinds are {_kinds()}",
        ) from None
    return fault


def _kinds() -> str:
    return ", ".join(sorted(str(kind.__struct_config__.tag) for kind in KINDS))


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
