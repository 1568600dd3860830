"""
What all pictures share: colours that hold on light and dark ground, shaded holes, words that cannot be markup.

Figures are plotly's. Text from the wire is escaped: plotly reads some HTML in labels.
"""

import html
from collections.abc import Iterable, Sequence
from typing import Any

from recorder.analysis.records import Hole
from recorder.errors import RecorderError
from recorder.quality.events import printable
from recorder.records import SECOND_NS

BID, ASK, MID, INK = "#16a34a", "#e0475b", "#3b82f6", "#7c8798"
STATES = {
    "missing": ("#e0475b", 0.30),
    "suspect": ("#f59e0b", 0.28),
    "unverifiable": ("#8b5cf6", 0.16),
    "unrecorded": ("#94a3b8", 0.25),
}
MARKETS = ("#3b82f6", "#f59e0b", "#16a34a", "#e0475b", "#8b5cf6", "#06b6d4", "#d946ef", "#84cc16", "#f97316", "#64748b")
GRID = "rgba(128,140,160,0.22)"
MAX_SHADES = 300
"""Rectangles in a picture; more are no longer told apart, and slow a browser down."""


def graph_objects() -> Any:  # noqa: ANN401  # plotly ships no types
    """
    `plotly.graph_objects`.

    Raises:
        RecorderError: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go  # noqa: PLC0415
    except ImportError:
        raise RecorderError("pictures need plotly (the extra `plot`); install it with: pip install plotly") from None
    return go


def said(text: str, most: int = 120) -> str:
    """
    Text from outside as a label: printable, not too long, no markup.
    """
    shown = printable(text)
    return html.escape(shown if len(shown) <= most else f"{shown[: most - 1]}…")


def figure(title: str, *, height: int = 420) -> Any:  # noqa: ANN401
    """
    An empty one in our style.
    """
    go = graph_objects()
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": GRID, "automargin": True, "title": {"standoff": 8}}
    # Without plotly's own template, which is longer than most figures.
    made = go.Figure(layout={"template": go.layout.Template()})
    made.update_layout(
        title={
            "text": title,
            "x": 0.01,
            "xanchor": "left",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 8},
            "font": {"size": 15},
        },
        height=height,
        margin={"l": 8, "r": 12, "t": 70, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 12, "family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif"},
        legend={"orientation": "h", "x": 0, "y": 1.0, "xanchor": "left", "yanchor": "bottom", "font": {"size": 11}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": INK, "activecolor": MID},
        hovermode="closest",
        hoverlabel={"align": "left"},
        xaxis=axis,
        yaxis=axis,
        colorway=list(MARKETS),
    )
    return made


def iso(ns: int) -> str:
    """
    An instant as plotly reads it: UTC, to the microsecond.
    """
    from datetime import UTC, datetime  # noqa: PLC0415

    return f"{datetime.fromtimestamp(ns // SECOND_NS, UTC):%Y-%m-%d %H:%M:%S}.{ns % SECOND_NS // 1000:06d}"


def shade(made: Any, holes: Iterable[Hole]) -> int:  # noqa: ANN401
    """
    Shade holes over the height of a figure, and name their states in its legend; how many were left out.
    """
    go = graph_objects()
    wanted = sorted(holes, key=lambda hole: hole.start - hole.end)
    shown = wanted[:MAX_SHADES]
    # All at once: plotly takes seconds to add a hundred one by one.
    made.update_layout(
        shapes=[
            {
                "type": "rect",
                "xref": "x",
                "yref": "paper",
                "x0": iso(hole.start),
                "x1": iso(hole.end),
                "y0": 0,
                "y1": 1,
                "fillcolor": STATES[hole.state][0],
                "opacity": STATES[hole.state][1],
                "line": {"width": 0},
                "layer": "below",
            }
            for hole in shown
        ]
    )
    for state in dict.fromkeys(hole.state for hole in shown):
        colour, opacity = STATES[state]
        marker = {"symbol": "square", "size": 11, "color": colour, "opacity": max(opacity, 0.35)}
        made.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=state, hoverinfo="skip"))
    return len(wanted) - len(shown)


def edges(made: Any, first: int, last: int) -> None:  # noqa: ANN401
    """
    Show just this range of time.
    """
    made.update_xaxes(range=[iso(first), iso(last)], type="date")


def step_ns(first: int, last: int, columns: int) -> int:
    """
    A round number of ns by which a range makes at most so many columns.
    """
    at_least = max((last - first) / columns, 1)
    for seconds in (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400):
        if seconds * SECOND_NS >= at_least:
            return int(seconds * SECOND_NS)
    return int(at_least)


def matrix(
    cells: Sequence[tuple[int, int, float]], columns: int, rows: int
) -> list[list[float | None]]:  # one list a row, as plotly has it
    """
    Cells (column, row, value) as rows of values; what is not told is None.
    """
    made: list[list[float | None]] = [[None] * columns for _ in range(rows)]
    for column, row, value in cells:
        made[row][column] = value
    return made
