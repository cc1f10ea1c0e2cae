"""How modules show their arguments."""

from __future__ import annotations


def options(**values: object) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())
