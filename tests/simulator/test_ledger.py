"""
The ledger file.
"""

import pytest

from recorder.errors import ForeignFile
from recorder.records import SECOND_NS
from recorder.simulator.ledger import Ledger, Line, read_ledger

LINES = [
    Line(10 * SECOND_NS, "connected", 1),
    Line(10 * SECOND_NS + 1, "sent", 1, "trades_perp_0", 1, 1020, "0123456789abcdef", 77),
    Line(10 * SECOND_NS + 2, "fault", fault="drop", start_ns=1, end_ns=2),
    Line(10 * SECOND_NS + 3, "disconnected", 1, code=1001, count=1),
]


def test_lines_read_back_as_written_and_a_second_run_appends(tmp_path):
    """
    One file may hold several runs of a simulator.
    """
    path = tmp_path / "ledger.jsonl"
    for _ in range(2):
        ledger = Ledger(path)
        for line in LINES:
            ledger.append(line)
        ledger.close()

    assert read_ledger(path) == LINES * 2


def test_lines_are_on_disk_within_a_second_of_their_own_time(tmp_path):
    """
    So that a test may read along, and a kill loses little.
    """
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)

    ledger.append(LINES[0])
    ledger.append(LINES[1])
    assert len(read_ledger(path)) == 1
    ledger.append(Line(12 * SECOND_NS, "connected", 2))

    assert len(read_ledger(path)) == 3
    ledger.close()


def test_a_torn_last_line_is_dropped(tmp_path):
    """
    It is what a kill leaves.
    """
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    for line in LINES:
        ledger.append(line)
    ledger.close()
    path.write_bytes(path.read_bytes()[:-3])

    assert read_ledger(path) == LINES[:-1]


@pytest.mark.parametrize("text", ["hello\n", '{"t_ns":1}\n', '{"t_ns":1,"what":"danced"}\n', "\xff\n"])
def test_another_file_is_refused(tmp_path, text):
    """
    With the number of the line.
    """
    path = tmp_path / "other"
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(ForeignFile, match="line 1"):
        read_ledger(path)
