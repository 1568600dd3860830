"""
A day of a lake as one HTML file that needs nothing else: what was recorded, what is missing, and how it looked.

`contents` asks the lake, `page` writes the file. Nothing in it comes from or goes to a network.
"""
