"""
Which files of a root are published: told by its manifests, read as far as names and sizes go.

An hour without a manifest is not there: it is being written, replaced or repaired.
"""

from pathlib import Path

import msgspec

from recorder.errors import DamagedFile, RootError
from recorder.lake import layout, manifest
from recorder.lake.manifest import FORMAT, LakeFile
from recorder.records import HOUR_NS

_REMAKE = "move it to quarantine/ and run `drift-recorder seal` to make it again"


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


class Published:
    """
    The manifests of a root. Each is read once, and again when it was replaced.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._manifests: dict[str, tuple[tuple[int, int, int], Index]] = {}

    def files(self, name: str, first: int | None, last: int | None, wanted: set[str] | None = None) -> list[Path]:
        """
        Files of a table whose hour overlaps the range, by market and hour.

        `wanted` names markets, in lower case; None: all.
        """
        chosen = [
            (file.symbol or "", hour, self._root / file.path)
            for hour, index in self.hours(first, last)
            for file in index.files
            if file.table == name and (wanted is None or (file.symbol or "").lower() in wanted)
        ]
        return [path for _, _, path in sorted(chosen)]

    def hours(self, first: int | None, last: int | None) -> list[tuple[int, Index]]:
        """
        Hours with a manifest that overlap the range, oldest first.
        """
        wanted = (
            hour
            for hour in manifest.hours(self._root)
            if (last is None or hour < last) and (first is None or hour + HOUR_NS > first)
        )
        read = ((hour, self._read(self._root / layout.manifest_path(hour))) for hour in wanted)
        return [(hour, index) for hour, index in read if index is not None]

    def _read(self, path: Path) -> Index | None:
        try:
            stat = path.stat()
            identity = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            cached = self._manifests.get(path.name)
            if cached is not None and cached[0] == identity:
                return cached[1]
            index = msgspec.json.decode(path.read_bytes(), type=Index)
        except FileNotFoundError:
            return None  # withdrawn this moment, to be replaced
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DamagedFile(path, f"is not a manifest: {error}", _REMAKE) from None
        if index.format > FORMAT:
            problem = f"{path.name} has format {index.format}"
            raise RootError(self._root, problem, "upgrade drift-recorder to read it")
        for file in index.files:
            parts = Path(file.path).parts
            if parts[:1] != (layout.LAKE,) or ".." in parts:
                raise DamagedFile(path, f"names a file outside the lake: {file.path!r}", _REMAKE)
        self._manifests[path.name] = (identity, index)
        return index


def read_root(root: Path) -> Root:
    """
    What a root is bound to.

    Raises:
        RootError: not a recorder's data root, or one of a newer version.
    """
    hint = "give the folder that `[storage] root` names"
    try:
        raw = (root / layout.ROOT_FILE).read_bytes()
        found = msgspec.json.decode(raw, type=Root)
    except (FileNotFoundError, NotADirectoryError):
        problem = f"is not a data root (no {layout.ROOT_FILE} in it)" if root.is_dir() else "is not a folder"
        raise RootError(root, problem, hint) from None
    except OSError as error:
        raise RootError(root, f"cannot be read: {error.strerror}", "run as a user who may read it") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RootError(root, f"{layout.ROOT_FILE} is not a recorder's: {error}", hint) from None
    if found.format > FORMAT:
        raise RootError(root, f"has format {found.format}", "upgrade drift-recorder to read it")
    return found
