"""The venue, for tests and demos: a pure core in which time is an argument, an asyncio shell, and a ledger."""
