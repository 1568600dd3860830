"""
One connection of the simulated venue: what waits, and what becomes of it.
"""

from recorder.simulator.clients import Client
from recorder.simulator.messages import Frame, Log


def test_what_waits_when_a_connection_ends_is_dropped_with_the_time_it_was_due():
    """
    Else the ledger would tell of a book that was never meant for that time.
    """
    client, outputs = Client(1, heartbeat_due=0), []
    client.hold(buffer_bytes=1000)
    client.put(10, Frame("sent", "{}", "book"), outputs)

    client.give_up(25, outputs)

    (dropped,) = [output.line for output in outputs if isinstance(output, Log)]
    assert (dropped.what, dropped.t_ns, dropped.due_ns) == ("dropped", 25, 10)
