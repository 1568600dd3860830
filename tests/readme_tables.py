"""
The tables of the documents that come from code: columns from the schema, bits of flags, kinds of events.

`python tests/readme_tables.py` writes them where they stand; `test_readme.py` fails while they differ.
"""

import re
from pathlib import Path

from recorder.lake.schema import TABLES, Table
from recorder.quality.kinds import KINDS
from recorder.records import Flag

README = Path(__file__).parent.parent / "README.md"
DICTIONARY = README.parent / "recorder" / "lake" / "README.md"

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


def blocks() -> dict[Path, dict[str, str]]:
    """
    Every generated block by its document and the name of its marker.
    """
    tables = {f"columns {name}": columns(table) for name, table in TABLES.items()}
    return {README: {"kinds": kinds()}, DICTIONARY: {**tables, "flags": flags()}}


def filled(document: Path) -> str:
    """
    A document with its generated blocks as the code has them.

    Raises:
        ValueError: a block has no markers.
    """
    written = document.read_text(encoding="utf-8")
    for name, text in blocks()[document].items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(written):
            raise ValueError(f"{document} has no block <!-- {name} --> … <!-- end -->")
        written = pattern.sub(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", written)
    return written


if __name__ == "__main__":
    for document in blocks():
        document.write_text(filled(document), encoding="utf-8")
