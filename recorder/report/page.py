"""
A report as one HTML file: plotly's script inlined once, light and dark as the reader has it, down to a phone's width.

The page forbids itself every request by its own policy (CSP), so that it cannot have any. All text is escaped here.
"""

import html
from typing import Any

from recorder import __version__
from recorder.quality.events import printable
from recorder.report.contents import Contents, Section, Table

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"

_STYLE = """
:root { color-scheme: light dark; --ground: #f6f7f9; --card: #ffffff; --ink: #1d2430; --dim: #667085; --line: #e3e7ee;
  --accent: #2563eb; }
@media (prefers-color-scheme: dark) { :root { --ground: #0e1218; --card: #161c25; --ink: #e6eaf1; --dim: #98a2b3;
  --line: #273140; --accent: #7aa2ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 20px 16px 60px; }
h1 { font-size: 22px; margin: 4px 0 2px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 2px; }
p { margin: 0 0 10px; color: var(--dim); max-width: 75ch; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px; margin: 14px 0;
  min-width: 0; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(138px, 1fr)); gap: 10px; margin: 14px 0 0; }
dl div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 8px 12px; min-width: 0; }
dt { font-size: 12px; color: var(--dim); }
dd { margin: 0; font-size: 17px; font-weight: 600; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; max-height: 520px; overflow-y: auto; border-top: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th { position: sticky; top: 0; background: var(--card); text-align: left; font-weight: 600; color: var(--dim); }
th, td { padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); white-space: nowrap; vertical-align: top; }
td:last-child { white-space: normal; min-width: 60px; }
td.long { min-width: 260px; }
.right { text-align: right; }
.figure { width: 100%; min-width: 0; overflow: hidden; }
nav { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 12px 0 0; font-size: 14px; }
a { color: var(--accent); text-decoration: none; }
footer { color: var(--dim); font-size: 12px; margin-top: 20px; }
"""

_SCRIPT = """
const dark = matchMedia('(prefers-color-scheme: dark)');
function colours() {
  const of = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return {'font.color': of('--ink'), 'xaxis.gridcolor': of('--line'), 'yaxis.gridcolor': of('--line'),
    'modebar.color': of('--dim'), 'hoverlabel.bgcolor': of('--card'), 'hoverlabel.font.color': of('--ink'),
    'hoverlabel.bordercolor': of('--line')};
}
function narrow(layout, width) {
  if (width < 560) { layout.margin = Object.assign({}, layout.margin, {l: 4, r: 4}); layout.font.size = 10;
    layout.legend = Object.assign({}, layout.legend, {font: {size: 10}, y: -0.16, yanchor: 'top'});
    layout.title.font.size = 13; layout.margin.t = 40; }
  return layout;
}
const drawn = [];
for (const data of document.querySelectorAll('script[type="application/json"]')) {
  const place = document.getElementById(data.dataset.of), told = JSON.parse(data.textContent);
  drawn.push(Plotly.newPlot(place, told.data, narrow(told.layout, place.clientWidth),
    {responsive: true, displaylogo: false, displayModeBar: false}).then(() => Plotly.relayout(place, colours())));
}
let drawnFor = innerWidth;
addEventListener('resize', () => {
  if ((innerWidth < 560) !== (drawnFor < 560)) { drawnFor = innerWidth; location.reload(); }
});
dark.addEventListener('change', () => {
  for (const place of document.querySelectorAll('.figure')) Plotly.relayout(place, colours());
});
Promise.all(drawn).then(() => { document.documentElement.dataset.drawn = drawn.length; });
"""


def page(contents: Contents) -> bytes:
    """
    The file.
    """
    from plotly.offline import get_plotlyjs  # noqa: PLC0415

    title = contents.title  # escaped where it was made
    facts = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in contents.facts)
    links = "".join(f'<a href="#s{number}">{_text(of.name)}</a>' for number, of in enumerate(contents.sections))
    body = "".join(_section(number, of) for number, of in enumerate(contents.sections))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{_STYLE}</style>\n<script>{get_plotlyjs()}</script></head>\n"
        f"<body><main><h1>{title}</h1><dl>{facts}</dl><nav>{links}</nav>{body}"
        f"<footer>drift-recorder {_text(__version__)}. All times are UTC.</footer></main>\n"
        f"<script>{_SCRIPT}</script></body></html>\n"
    ).encode("utf-8", "replace")


def _section(number: int, of: Section) -> str:
    figures = "".join(_figure(f"f{number}-{at}", each) for at, each in enumerate(of.figures))
    table = _table(of.table) if of.table is not None else ""
    return (
        f'<section class="card" id="s{number}"><h2>{_text(of.name)}</h2><p>{_text(of.words)}</p>'
        f"{figures}{table}</section>\n"
    )


def _figure(name: str, made: Any) -> str:  # noqa: ANN401  # a plotly Figure
    # As JSON in a script of no known type: "<" is the only character that could end it.
    told = made.to_json().replace("<", "\\u003c")
    height = int(made.layout.height)
    return (
        f'<div class="figure" id="{name}" style="height:{height}px"></div>'
        f'<script type="application/json" data-of="{name}">{told}</script>\n'
    )


def _table(of: Table) -> str:
    if not of.rows:
        return "<p>None.</p>"

    def cells(row: list[str], tag: str) -> str:
        return "".join(
            f'<{tag} class="{"right" if at in of.right else "long" if len(value) > 60 else ""}">{_text(value)}</{tag}>'
            for at, value in enumerate(row)
        )

    rows = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in of.rows)
    return f'<div class="wide"><table><thead><tr>{cells(of.head, "th")}</tr></thead><tbody>{rows}</tbody></table></div>'


def _text(text: str) -> str:
    return html.escape(printable(text))
