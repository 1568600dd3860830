"""
Schedules of faults, from a script or the command line.
"""

import pytest

from recorder.errors import ConfigError
from recorder.simulator.faults import faults_from_arguments, read_script
from recorder.simulator.kinds import Alter, Drop, Freeze, Garbage, Silence, StopHeartbeats, WithholdFills

SCRIPT = """
[[fault]]
kind = "drop"
at_s = 20
every_s = 60.5
code = 1001

[[fault]]
kind = "silence"
market = "SOL-PERP"
from_s = 15
to_s = 25
channels = "all"

[[fault]]
kind = "withhold_fills"
from_s = 1
to_s = 2
every = 3

[[fault]]
kind = "stop_heartbeats"
from_s = 5
to_s = 30

[[fault]]
kind = "garbage"
at_s = 3
text = "{"
"""


def test_a_script_names_faults_of_every_kind(tmp_path):
    """
    Members have the names of the structs; what is left out has its default.
    """
    path = tmp_path / "script.toml"
    path.write_text(SCRIPT)

    assert read_script(path) == [
        Drop(20, every_s=60.5, code=1001),
        Silence(from_s=15, to_s=25, market="SOL-PERP", channels="all"),
        WithholdFills(from_s=1, to_s=2, every=3),
        StopHeartbeats(from_s=5, to_s=30),
        Garbage(3, text="{"),
    ]


def test_an_empty_script_has_no_faults(tmp_path):
    """
    A file to start from.
    """
    path = tmp_path / "script.toml"
    path.write_text("")

    assert read_script(path) == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[fault]]\nkind = 'earthquake'\nat_s = 1", "earthquake"),
        ("[[fault]]\nat_s = 1", "kind"),
        ("[[fault]]\nkind = 'drop'", "at_s"),
        ("[[fault]]\nkind = 'drop'\nat_s = 1\ncolour = 'red'", "colour"),
        ("[[fault]]\nkind = 'drop'\nat_s = 'soon'", "at_s"),
        ("[[fault]]\nkind = 'drop'\nat_s = -1", "fault 1"),
        ("[[fault]]\nkind = 'drop'\nat_s = nan", "fault 1"),
        ("[[fault]]\nkind = 'drop'\nat_s = 1\nevery_s = 0", "fault 1"),
        ("[[fault]]\nkind = 'drop'\nat_s = 1\ncode = 1006", "1006"),
        ("[[fault]]\nkind = 'silence'\nfrom_s = 5\nto_s = 5", "from 5 to 5"),
        ("[[fault]]\nkind = 'silence'\nfrom_s = 5\nto_s = 6\nchannels = 'some'", "some"),
        ("[[fault]]\nkind = 'withhold_fills'\nfrom_s = 5\nto_s = 6\nevery = 0", "every = 0"),
        ("[[fault", "TOML|Expected"),
        ("faults = 1", "faults"),
    ],
)
def test_a_mistake_in_a_script_is_named(tmp_path, text, named):
    """
    With the file, so that it can be found.
    """
    path = tmp_path / "script.toml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=named) as raised:
        read_script(path)

    assert str(path) in str(raised.value)


def test_a_missing_script_is_an_error_and_not_a_traceback(tmp_path):
    """
    So is a directory.
    """
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError):
            read_script(path)


def test_arguments_say_the_same_as_a_script():
    """
    The forms `--help` shows.
    """
    assert faults_from_arguments(
        drop_at=["20", "30/60"],
        silence=["SOL-PERP:15-25", "*:1.5-2"],
        withhold_fills=["BTC-PERP:1-2"],
        stop_heartbeats=["5-30"],
        garbage=["12:{a:b"],
    ) == [
        Drop(20.0),
        Drop(30.0, every_s=60.0),
        Silence(from_s=15.0, to_s=25.0, market="SOL-PERP"),
        Silence(from_s=1.5, to_s=2.0, market="*"),
        WithholdFills(from_s=1.0, to_s=2.0, market="BTC-PERP"),
        StopHeartbeats(from_s=5.0, to_s=30.0),
        Garbage(12.0, text="{a:b"),
    ]


def test_any_kind_can_be_typed_with_the_members_of_a_script():
    """
    Numbers as numbers, bare words as text.
    """
    assert faults_from_arguments(
        fault=[
            "freeze market=SOL-PERP,spot:SOL from_s=15 to_s=25.5 what=slot",
            "drop at_s=20 code=1001",
            'alter from_s=1 to_s=2 what="source" every=3',
        ]
    ) == [
        Freeze(from_s=15, to_s=25.5, market="SOL-PERP,spot:SOL", what="slot"),
        Drop(20, code=1001),
        Alter(from_s=1, to_s=2, what="source", every=3),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {"fault": ["earthquake at_s=1"]},
        {"fault": [" "]},
        {"fault": ["freeze from_s=1"]},
        {"fault": ["drop at_s=1 colour=red"]},
        {"fault": ["slow_ticks from_s=1 to_s=2 late_ms=0"]},
        {"fault": ["restart from_s=1 to_s=2 code=1006"]},
        {"drop_at": ["soon"]},
        {"drop_at": ["20/"], "silence": ["x"]},
        {"drop_at": ["-1"]},
        {"drop_at": ["20/0"]},
        {"drop_at": ["inf"]},
        {"silence": ["SOL-PERP"]},
        {"silence": [":15-25"]},
        {"silence": ["SOL-PERP:25-15"]},
        {"silence": ["SOL-PERP:15"]},
        {"withhold_fills": ["SOL-PERP:a-b"]},
        {"stop_heartbeats": ["15"]},
        {"garbage": ["text"]},
    ],
)
def test_an_argument_that_cannot_be_read_says_what_can(arguments):
    """
    One line for the terminal.
    """
    with pytest.raises(ConfigError, match=r"give|seconds|takes"):
        faults_from_arguments(**arguments)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("", "names no kind; give one of alter, backlog"),
        ("kind = 'freez'", "no kind 'freez', did you mean freeze?; give one of alter"),
        ("kind = 3", "no kind '3'; give"),
        ("kind = 'freeze'\nfrom_s = 1", "freeze lacks to_s; freeze takes from_s to_s "),
        ("kind = 'drop'\nat_s = 1\ncolour = 'red'", "drop has no member 'colour'; drop takes at_s every_s= "),
        ("kind = 'drop'\nat_s = 'x'", "at_s = 'x' is not a number; drop takes"),
        ("kind = 'drop'\nat_s = 1\ncode = 1.5", "code = 1.5 is not a whole number; drop"),
        ("kind = 'drop'\nat_s = 1\nevery_s = 'x'", "every_s = 'x' is not a number; drop"),
        ("kind = 'silence'\nfrom_s = 1\nto_s = 2\nmarket = 3", "market = 3 is not text; silence"),
        ("kind = 'freeze'\nfrom_s = 1\nto_s = 2\nwhat = 'x'", "what = 'x' is not all, slot, content; freeze"),
        ("kind = 'garbage'\nat_s = 1\nwhat = 'x'", "what = 'x' is not brace, empty, array, null"),
    ],
)
def test_a_fault_that_is_wrong_is_told_in_words(tmp_path, table, words):
    """
    Which, the member and its value, and what the kind takes; from a script and as an argument alike.
    """
    path = tmp_path / "faults.toml"
    path.write_text(f"[[fault]]\nkind = 'drop'\nat_s = 1\n[[fault]]\n{table}\n")

    with pytest.raises(ConfigError) as caught:
        read_script(path)
    assert str(caught.value).startswith(f"{path}: fault 2: {words}")
    assert "$" not in str(caught.value)

    if table and "= 3" not in table:
        argument = table.removeprefix("kind = ").replace(" = ", "=").replace("'", "")
        with pytest.raises(ConfigError) as caught:
            faults_from_arguments(fault=[argument])
        assert str(caught.value).startswith(f"simulate: --fault: {words}")


def test_a_script_is_tables_of_faults_alone(tmp_path):
    """
    A misspelt table would be a run without faults.
    """
    for text, words in (("[[faults]]\n", "unknown key 'faults'"), ("fault = 3", "fault is no list of tables")):
        (tmp_path / "faults.toml").write_text(text)
        with pytest.raises(ConfigError, match=words):
            read_script(tmp_path / "faults.toml")
