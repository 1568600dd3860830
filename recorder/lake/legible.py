"""
What can still be read of a manifest that is damaged: what it lists, piece by piece.

Any of it may be what was damaged. So it is good for doubt (this file is not what was listed), never for proof.
"""

import re
from contextlib import suppress
from pathlib import Path

import msgspec

from recorder import durable
from recorder.lake.manifest import Input, LakeFile

_FILE = re.compile(r'"path": "([^"]+)",[^{}]*"rows": (\d{1,18}),\s+"bytes": (\d{1,18}),\s+"sha256": "([0-9a-f]{64})"')
_SYMBOL = re.compile(r'"symbol": ("(?:[^"\\]|\\.)*")')
_INPUT = re.compile(r'"run": "([^"]+)",\s+"name": "([^"]+)",\s+"bytes": (\d{1,18}),\s+"sha256": "([0-9a-f]{64})"')


def files(damaged: Path) -> tuple[list[LakeFile], list[LakeFile]]:
    """
    Of its files those that were there, and those that had been removed by rule.
    """
    text = _text(damaged)
    listed: tuple[list[LakeFile], list[LakeFile]] = [], []
    expired = text.find('"expired": [')
    for match in _FILE.finditer(text):
        path, rows, size, sha = match.groups()
        file = LakeFile(path, Path(path).stem, _symbol(match[0]), int(rows), int(size), sha, None, None)
        listed[0 <= expired < match.start()].append(file)
    return listed


def inputs(damaged: Path) -> list[Input]:
    """
    Of the journal segments its hour was made from.
    """
    return [Input(run, name, int(size), sha) for run, name, size, sha in _INPUT.findall(_text(damaged))]


def _text(damaged: Path) -> str:
    return "" if damaged.is_symlink() else durable.read_bytes(damaged).decode("utf-8", "replace")


def _symbol(entry: str) -> str | None:
    said = _SYMBOL.search(entry)
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(said[1], type=str) if said is not None else None
    return None
