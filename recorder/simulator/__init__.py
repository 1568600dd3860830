"""
The venue, for tests and demos: a pure core in which time is an argument, an asyncio shell, and a ledger.

`core.Venue` answers clients (`requests`) and publishes what the market model (`market`, `fills`) says, printed as the
real server prints it (`frames`, `js`), under a schedule of `faults`. `server.serve` puts it on a socket, or a `replay`.
"""
