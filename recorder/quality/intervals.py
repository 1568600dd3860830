"""
Stretches of time as sorted lists of half-open pairs, and the arithmetic that coverage is made of. Pure.

Spans are `[start, end)` in ns, in order, not empty, and neither overlap nor touch. Every function here takes spans like
that and gives spans like that; `union` takes anything, and `add` any one more.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import TypeVar

Span = tuple[int, int]
Spans = list[Span]
Label = TypeVar("Label")


def union(*of: Iterable[Span]) -> Spans:
    """
    What any of them covers. The only one whose arguments may be in any order, overlap, touch or be empty.
    """
    out: Spans = []
    for start, end in sorted(span for spans in of for span in spans):
        if end <= start:
            continue
        if out and start <= out[-1][1]:
            if end > out[-1][1]:
                out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return out


def add(spans: Spans, span: Span) -> None:
    """
    Put one more among those that are in order and apart; the same as `union` of all, in place.
    """
    start, end = span
    if end <= start:
        return
    first = bisect_left(spans, start, key=itemgetter(1))
    behind = bisect_right(spans, end, key=itemgetter(0))
    if first < behind:
        start, end = min(start, spans[first][0]), max(end, spans[behind - 1][1])
    spans[first:behind] = [(start, end)]


def shared(of: Iterable[Spans]) -> Spans:
    """
    What two of them or more cover.
    """
    edges = sorted(edge for spans in of for start, end in spans for edge in ((start, 1), (end, -1)))
    found: list[Span] = []
    depth = since = 0
    for at, change in edges:
        before, depth = depth, depth + change
        if before < 2 <= depth:
            since = at
        elif depth < 2 <= before:
            found.append((since, at))
    return union(found)


def intersection(a: Spans, b: Spans) -> Spans:
    """
    What both cover.
    """
    common: Spans = []
    i = j = 0
    while i < len(a) and j < len(b):
        start, end = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if start < end:
            common.append((start, end))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return common


def difference(a: Spans, b: Spans) -> Spans:
    """
    What the first covers and the second does not.
    """
    left: Spans = []
    j = 0
    for start, end in a:
        at = start
        while j < len(b) and b[j][1] <= at:
            j += 1
        k = j
        while k < len(b) and b[k][0] < end:
            if b[k][0] > at:
                left.append((at, b[k][0]))
            at = max(at, b[k][1])
            k += 1
        if at < end:
            left.append((at, end))
    return left


def length(spans: Spans) -> int:
    """
    Of all of them together, ns.
    """
    return sum(end - start for start, end in spans)


def cut(spans: Spans, window: Span) -> Spans:
    """
    The part of them inside a window. Costs as much as there is in it, not as there is of them.
    """
    start, end = window
    at = bisect_right(spans, start, key=lambda span: span[1])
    parts: Spans = []
    while at < len(spans) and spans[at][0] < end:
        parts.append((max(spans[at][0], start), min(spans[at][1], end)))
        at += 1
    return parts if start < end else []


def widened(spans: Spans, by: int) -> Spans:
    """
    Each of them, that much longer at both ends.
    """
    return union((start - by, end + by) for start, end in spans)


def joined(parts: Iterable[tuple[int, int, Label]]) -> list[tuple[int, int, Label]]:
    """
    Stretches that do not overlap, in order, and those that touch and bear the same label as one.
    """
    out: list[tuple[int, int, Label]] = []
    for part in sorted(parts, key=lambda each: each[0]):
        if out and out[-1][1] == part[0] and out[-1][2] == part[2]:
            out[-1] = (out[-1][0], part[1], part[2])
        else:
            out.append(part)
    return out


def layered(layers: Sequence[tuple[Spans, Label]], start: int, end: int) -> list[tuple[int, int, Label]]:
    """
    What is seen from above: at each instant the first layer that covers it.

    Args:
        layers: topmost first; the last should cover all, for what no layer covers is left out.
        start: of what is looked at.
        end: of it.

    Returns:
        (start, end, label) in order; neighbours that touch have different labels.
    """
    seen: list[tuple[int, int, Label]] = []
    bare: Spans = union([(start, end)])
    for spans, label in layers:
        seen += [(a, b, label) for a, b in intersection(bare, spans)]
        bare = difference(bare, spans)
    return joined(seen)
