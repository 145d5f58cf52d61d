"""Numbers of bytes for display."""

from __future__ import annotations


def format_size(size: float) -> str:
    """Return a number of bytes in a decimal unit, like ``68.0 MB``."""
    if size < 1000:
        return f"{size:.0f} byte{'' if round(size) == 1 else 's'}"
    value, units = size / 1000, ["kB", "MB", "GB", "TB", "PB"]
    while value >= 999.95 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.1f} {units[0]}"
