"""
Files and secrets: who may read what, links that somebody planted, and settings that are nobody else's business.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from lake_cases import NEXT, S, make_root, recorded, tree
from recorder.config import load_config
from recorder.errors import ConfigError, RootError, SealFailed
from recorder.lake import manifest as manifests
from recorder.lake.repair import repair
from recorder.lake.root import bind
from recorder.lake.sealing import seal
from recorder.lake.verify import verify
from recorder.redaction import redacted, secrets_in

CONFIG = """
[venue]
name = "test"
url = "wss://venue.example/ws{query}"
network = "mainnet-beta"
[markets]
perp = ["SOL-PERP"]
[storage]
root = "data"
"""


@pytest.fixture
def root(tmp_path) -> Path:
    """
    Two sealed hours.
    """
    root = make_root(tmp_path / "root")
    recorded(root, NEXT - 4 * S, NEXT + 4 * S)
    seal(root)
    return root


def modes(root: Path) -> set[tuple[str, int]]:
    """
    Of every folder and file below a root but those a test made itself.
    """
    paths = [root, *root.rglob("*")]
    return {("folder" if p.is_dir() else "file", stat.S_IMODE(p.stat().st_mode)) for p in paths}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_what_a_recorder_makes_is_for_its_owner_alone(tmp_path, umask):
    """
    Whatever the umask: 0700 and 0600.
    """
    before = os.umask(umask)
    try:
        root = make_root(tmp_path / "root")
        recorded(root, NEXT - 4 * S, NEXT + 4 * S)
        seal(root)
    finally:
        os.umask(before)

    assert modes(root) == {("folder", 0o700), ("file", 0o600)}


def test_a_group_that_may_read_the_folder_may_read_what_is_in_it(tmp_path):
    """
    The folder's mode rules; nobody else gets anything, and the group never writes.
    """
    before = os.umask(0o002)
    try:
        (tmp_path / "root").mkdir(mode=0o770)
        (tmp_path / "root").chmod(0o770)
        root = make_root(tmp_path / "root")
        recorded(root, NEXT - 4 * S, NEXT + 4 * S)
        seal(root)
    finally:
        os.umask(before)

    assert modes(root) == {("folder", 0o770), ("folder", 0o750), ("file", 0o640)}


@pytest.mark.parametrize("name", ["journal", "lake", "manifest", "quarantine", "root.json"])
def test_a_root_with_a_link_at_its_top_is_refused(tmp_path, name):
    """
    By name, by whoever would use it, and before anything is written through it.
    """
    root = make_root(tmp_path / "root")
    elsewhere = tmp_path / "elsewhere"
    if (root / name).exists():
        (root / name).rename(elsewhere)
    else:
        elsewhere.mkdir()
    (root / name).symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*")) if elsewhere.is_dir() else elsewhere.read_bytes()

    for use in (seal, verify, repair, lambda r: bind(r, venue="test", network="mainnet-beta")):
        with pytest.raises(RootError, match=f"{name} is a symbolic link"):
            use(root)

    assert (sorted(elsewhere.rglob("*")) if elsewhere.is_dir() else elsewhere.read_bytes()) == before


@pytest.mark.parametrize(
    "where", ["lake/books", "lake/trades/market=SOL-PERP", "journal/20250301T105956.000000Z-aaaaaa"]
)
def test_a_folder_that_is_a_link_is_named_and_not_written_through(tmp_path, root, where):
    """
    Nothing appears where it points; verify names it, and repair moves it away.
    """
    elsewhere = tmp_path / "elsewhere"
    (root / where).rename(tmp_path / "aside")
    elsewhere.mkdir()
    (root / where).symlink_to(elsewhere)

    with suppress(SealFailed):  # without its journal there is no hour
        seal(root, hour=NEXT)
    assert list(elsewhere.iterdir()) == []
    problems = manifests.read(root, NEXT).problems
    assert where.startswith("journal") or "Is a symbolic link" in problems[0]
    assert {p.path: p.problem for p in verify(root).problems}[where] == "is a symbolic link, which nothing here follows"

    (root / where).unlink()
    (tmp_path / "aside").rename(root / where)
    seal(root)
    assert verify(root).problems == []


def test_a_file_that_is_a_link_is_not_read_and_replaced_by_what_it_should_be(tmp_path, root):
    """
    A Parquet file, a manifest, a lock: what they point to stays as it is.
    """
    before = tree(root)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    parquet = next((root / "lake").rglob("books.parquet"))
    manifest = root / "manifest" / "2025-03-01T11.json"
    for path in (parquet, manifest):
        path.unlink()
        path.symlink_to(victim)

    repair(root)

    assert verify(root).problems == []
    assert tree(root) == before
    assert victim.read_bytes() == b"precious"
    (root / "manifest" / "seal.lock").unlink()
    (root / "manifest" / "seal.lock").symlink_to(victim)
    with pytest.raises(RootError, match="cannot be written"):
        seal(root)


def test_what_anybody_may_write_is_named(root):
    """
    It proves nothing any more.
    """
    (root / "manifest").chmod(0o777)

    assert {p.path: p.problem for p in verify(root).problems} == {"manifest": "can be written by anybody"}


# ---- secrets


def test_settings_that_are_secrets_are_known():
    """
    A query, a user or a password in an address; and whatever says in its name that it is one.
    """
    document = {
        "venue": {"url": "wss://a/ws?key=1", "copy_urls": ["wss://b/ws"], "name": "a?b"},
        "notify": {
            "webhook": "https://hooks.example/T0/B0",
            "url": "https://chat.example/x",
            "ping_token": "x",
            "levels": ["warning"],
        },
        "capture": {"proxy": "http://me:pw@proxy:3128"},
    }

    named = ["venue.url", "notify.webhook", "notify.url", "notify.ping_token", "capture.proxy"]
    assert list(secrets_in(document)) == named


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("wss://a.example/ws", "wss://a.example/ws"),
        ("wss://a.example:443/ws?key=secret", "wss://a.example:443/ws?…"),
        ("http://me:secret@proxy:3128", "http://…@proxy:3128"),
        ("http://secret@[::1]:1/x", "http://…@[::1]:1/x"),
        ("wss://[broken/ws?secret", "wss://[broken/ws?…"),
        ("SOL-PERP?", "SOL-PERP?"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address, shown):
    """
    In logs, errors, the journal and the lake.
    """
    assert redacted(address) == shown


@pytest.mark.parametrize(("mode", "fine"), [(0o600, True), (0o640, False), (0o644, False), (0o604, False)])
def test_a_configuration_with_a_secret_is_for_its_owner(tmp_path, mode, fine):
    """
    Refused otherwise, with the key and what to do, and without the secret; one without a secret may be read by anybody.
    """
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(query="?key=hunter2"))
    path.chmod(mode)
    if fine:
        assert load_config(path).venue.url.endswith("hunter2")
    else:
        with pytest.raises(ConfigError, match=rf"venue.url: is a secret.*mode {mode:04o}.*chmod 600") as refused:
            load_config(path)
        assert "hunter2" not in str(refused.value)
    path.write_text(CONFIG.format(query=""))
    assert load_config(path)


@pytest.mark.needs("root")
def test_a_configuration_of_another_owner_may_be_read_by_the_group(tmp_path):
    """
    As a service has it: root's file, the recorder's group.
    """
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(query="?key=hunter2"))
    os.chown(path, 12345, 12345)
    path.chmod(0o640)
    assert load_config(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="is a secret"):
        load_config(path)
