"""
The lake in the forms of others: CSV as data vendors sell it, hftbacktest's events, raw lines of the journal.

All are written as a stream, appear under their name whole or not at all, and have the holes beside them.
"""
