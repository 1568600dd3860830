"""
How the recorder is doing, in one value: for the endpoint, for `status` and for `top`.

`report.py` holds the value and how it follows from what monitor and counts know (pure); `storage.py` looks at the disk;
`follow.py` makes the value of a recorder in another process, or of one that is gone, from its journal alone.
"""
