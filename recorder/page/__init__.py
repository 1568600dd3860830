"""
A page to look at, by a process of its own: it tails the journal and reads the lake, so that looking never costs the
recorder anything. Read-only throughout.

`follow.py` reads what the journal gains, `view.py` makes of it what is shown, `past.py` asks lake and disk, `serve.py`
hands it to browsers.
"""
