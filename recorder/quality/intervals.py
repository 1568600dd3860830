"""
Stretches of time as sorted lists of half-open pairs, and the arithmetic that coverage is made of. Pure.

Spans are `[start, end)` in ns, in order, not empty, and neither overlap nor touch. Every function here takes spans like
that and gives spans like that; `union` takes anything.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

Span = tuple[int, int]
Spans = list[Span]
Label = TypeVar("Label")


def union(*of: Iterable[Span]) -> Spans:
    """
    What any of them covers. The only one whose arguments may be in any order, overlap, touch or be empty.
    """
    joined: Spans = []
    for start, end in sorted(span for spans in of for span in spans):
        if end <= start:
            continue
        if joined and start <= joined[-1][1]:
            if end > joined[-1][1]:
                joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


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


def touches(span: Span, spans: Spans) -> bool:
    """
    Whether any of them has an instant in common with one.
    """
    return bool(intersection([span], spans))


def widened(spans: Spans, by: int) -> Spans:
    """
    Each of them, that much longer at both ends.
    """
    return union((start - by, end + by) for start, end in spans)


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
    seen.sort(key=lambda part: part[0])
    joined: list[tuple[int, int, Label]] = []
    for part in seen:
        if joined and joined[-1][1] == part[0] and joined[-1][2] == part[2]:
            joined[-1] = (joined[-1][0], part[1], part[2])
        else:
            joined.append(part)
    return joined
