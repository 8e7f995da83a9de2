"""Keys under which transition matrices stand in an AnnData object if none is named, as in CellRank."""

FORWARD, BACKWARD = "T_fwd", "T_bwd"
DIRECTIONS = {FORWARD: False, BACKWARD: True}
"""Whether the process behind a default key is a backward one."""


def default_key(backward: bool | None) -> str:
    """Key of a transition matrix; that of a forward process if the direction is unknown."""
    return BACKWARD if backward else FORWARD
