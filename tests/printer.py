"""
What JavaScript prints of a parsed JSON value, by the simulator's own printer of its parts.
"""

from typing import Any

from recorder.simulator.js import js_number, js_string


def printed(value: Any) -> str:
    """
    A parsed JSON value as JavaScript prints it.
    """
    if isinstance(value, dict):
        return "{" + ",".join(f"{js_string(name)}:{printed(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(printed(member) for member in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    return js_string(value) if isinstance(value, str) else js_number(value)
