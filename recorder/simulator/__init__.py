"""
The venue, for tests and demos: a pure core in which time is an argument, an asyncio shell, and a ledger.

`core.Venue` is the server: it answers clients (`requests`), remembers what the real one remembers (`clients`), and
hands out what the `publisher` makes of the market model (`market`, `fills`), printed as one of three versions of the
real server prints it (`generations`, `frames`, `shapes`, `js`). What goes wrong is a schedule of `kinds` of faults,
from a script or arguments (`faults`) or a seed (`mixtures`); `alter` bends frames. `server.serve` puts it on a socket,
or a `replay`; `drive` runs it with several clients in virtual time. The `ledger` is the ground truth of both.
"""
