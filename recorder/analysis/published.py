"""
Which files of a root are published: told by its manifests, read as far as names and sizes go.

An hour without a manifest is not there: it is being written, replaced or repaired.
"""

from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

import msgspec

from recorder.analysis.store import Folder, Identity, Store
from recorder.errors import DamagedFile, RootError
from recorder.lake import layout
from recorder.lake.manifest import FORMAT, LakeFile
from recorder.records import HOUR_NS

_REMAKE = "`drift-recorder verify --repair` makes the hour again, as long as its journal is kept"


class Root(msgspec.Struct, frozen=True):
    """
    `root.json`: what a root is bound to.
    """

    format: int
    venue: str
    network: str


class Index(msgspec.Struct, frozen=True):
    """
    The part of a manifest that a reader needs: without the carry, which grows with the markets.
    """

    format: int
    complete: bool
    files: list[LakeFile]
    expired: list[LakeFile] = []
    """Removed by rule."""


class Published:
    """
    The manifests of a root. Each is read once, and again when it was replaced.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._manifests: dict[str, tuple[Identity, Index]] = {}

    def files(
        self,
        name: str,
        first: int | None,
        last: int | None,
        wanted: set[str] | None = None,
        *,
        without: Collection[int] = (),
    ) -> list[str]:
        """
        Files of a table whose hour overlaps the range, by market and hour, relative to the root.

        `wanted` names markets, in lower case; None: all. `without` some hours.
        """
        chosen = [
            (file.symbol or "", hour, file.path)
            for hour, index in self.hours(first, last)
            if hour not in without
            for file in index.files
            if file.table == name and (wanted is None or (file.symbol or "").lower() in wanted)
        ]
        return [path for _, _, path in sorted(chosen)]

    def within(self, name: str, first: int | None, last: int | None, wanted: set[str] | None = None) -> bool:
        """
        Whether every row of the files that `files` gives lies in the range: they need not be looked at for that.
        """
        files = (
            (hour, file)
            for hour, index in self.hours(first, last)
            for file in index.files
            if file.table == name and file.rows and (wanted is None or (file.symbol or "").lower() in wanted)
        )
        for hour, file in files:
            seen_first, seen_last = file.first_recv_ts, file.last_recv_ts
            if first is not None and (seen_first is None or min(hour, seen_first) < first):
                return False
            if last is not None and (seen_last is None or max(hour + HOUR_NS - 1, seen_last) >= last):
                return False
        return True

    def hours(self, first: int | None, last: int | None) -> list[tuple[int, Index]]:
        """
        Hours with a manifest that overlap the range, oldest first.
        """
        wanted = (
            hour
            for hour in self._store.hours()
            if (last is None or hour < last) and (first is None or hour + HOUR_NS > first)
        )
        read = ((hour, self.hour(hour)) for hour in wanted)
        return [(hour, index) for hour, index in read if index is not None]

    def hour(self, hour: int) -> Index | None:
        """
        What one hour consists of; None if it is not published.
        """
        name = manifest_name(hour)
        identity = self._store.identity(name)
        if identity is None:
            return None
        cached = self._manifests.get(name)
        if cached is not None and cached[0] == identity:
            return cached[1]
        path = Path(self._store.root) / name
        try:
            index = msgspec.json.decode(self._store.read(name), type=Index)
        except FileNotFoundError:
            return None  # withdrawn this moment, to be replaced
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DamagedFile(path, f"is not a manifest: {error}", _REMAKE) from None
        if index.format > FORMAT:
            problem = f"{path.name} has format {index.format}"
            raise RootError(self._store.root, problem, "upgrade drift-recorder to read it")
        for file in index.files:
            parts = Path(file.path).parts
            if parts[:1] != (layout.LAKE,) or ".." in parts:
                raise DamagedFile(path, f"names a file outside the lake: {file.path!r}", _REMAKE)
        self._manifests[name] = (identity, index)
        return index


@lru_cache(maxsize=1 << 16)
def manifest_name(hour: int) -> str:
    """
    The manifest of an hour, relative to the root.
    """
    return layout.manifest_path(hour).as_posix()


def read_root(of: Store | Path) -> Root:
    """
    What a root is bound to: a folder, or wherever a store has it.

    Raises:
        RootError: not a recorder's data root, or one of a newer version.
    """
    hint = "give the folder that `[storage] root` names"
    store = Folder(of) if isinstance(of, Path) else of
    where = store.root
    try:
        found = msgspec.json.decode(store.read(layout.ROOT_FILE), type=Root)
    except FileNotFoundError:
        here = not isinstance(store.root, Path) or store.root.is_dir()
        problem = f"is not a data root (no {layout.ROOT_FILE} in it)" if here else "is not a folder"
        raise RootError(where, problem, hint) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RootError(where, f"{layout.ROOT_FILE} is not a recorder's: {error}", hint) from None
    if found.format > FORMAT:
        raise RootError(where, f"has format {found.format}", "upgrade drift-recorder to read it")
    return found
