"""
The tables of the README that come from code: columns from the schema, kinds of events from the monitor, settings.

`python tests/readme_tables.py` writes them into the README; `test_readme.py` fails while they differ.
"""

import re
from pathlib import Path

from recorder.lake.schema import TABLES, Table
from recorder.quality.events import KINDS
from recorder.records import Flag

README = Path(__file__).parent.parent / "README.md"

_MEMBER_DOC = re.compile(
    r'^    (?P<name>[A-Z_]+) = (?P<value>[^\n]+)\n    """(?P<doc>.*?)"""', re.MULTILINE | re.DOTALL
)


def columns(table: Table) -> str:
    """
    One table's columns, as Markdown.
    """
    lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    for column in table.columns:
        kind = str(column.type).replace("list<element: ", "list<").replace("list<item: ", "list<")
        kind = f"{kind}{', null' if column.nullable else ''}"
        meaning = column.doc.replace("|", "\\|")
        lines.append(f"| `{column.name}` | {kind} | {column.unit} | {meaning} |")
    return "\n".join(lines)


def flags() -> str:
    """
    Bits of `flags`, as Markdown; their meaning is the docstring that stands below each in the source.
    """
    source = (README.parent / "recorder" / "records.py").read_text(encoding="utf-8")
    body = source[source.index("class Flag(") : source.index("class Source(")]
    docs = {m["name"]: " ".join(m["doc"].split()) for m in _MEMBER_DOC.finditer(body)}
    lines = ["| bit | value | name | meaning |", "|---|---|---|---|"]
    lines += [
        f"| {flag.value.bit_length() - 1} | {flag.value} | `{flag.name}` | {docs[flag.name or '']} |" for flag in Flag
    ]
    return "\n".join(lines)


def kinds() -> str:
    """
    Kinds of events, as Markdown.
    """
    lines = [
        "| kind | concerns | raised when | bounds (`start` → `end`) | cause | does not prove |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{name}` | {kind.scope} | {kind.raised} | {kind.bounds} | {kind.cause} | {kind.proves_not} |"
        for name, kind in KINDS.items()
    ]
    return "\n".join(lines)


def blocks() -> dict[str, str]:
    """
    Every generated block by the name of its marker.
    """
    return {**{f"columns {name}": columns(table) for name, table in TABLES.items()}, "flags": flags(), "kinds": kinds()}


def filled(readme: str) -> str:
    """
    The README with its generated blocks as the code has them.

    Raises:
        ValueError: a block has no markers.
    """
    for name, text in blocks().items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(readme):
            raise ValueError(f"README.md has no block <!-- {name} --> … <!-- end -->")
        readme = pattern.sub(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", readme)
    return readme


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
