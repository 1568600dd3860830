"""
A recording as a venue: its frames again, over a websocket, in the venue's own protocol.

`frames` finds them: byte for byte in the journal as long as that is kept, and afterwards rebuilt (`rebuilt`) from the
sealed files. `simulator.server` speaks the protocol.
"""
