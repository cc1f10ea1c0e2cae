"""What a change may cost, in counts that do not depend on the machine."""

from __future__ import annotations

from collections.abc import Mapping

MORE = 1.03  # than the budget, which is too much


def exceeded(
    found: Mapping[str, float], budget: Mapping[str, float], digits: int, slack: float = 0.0
) -> list[str]:
    """A complaint for each count that the budget does not have, and for each that is beyond it, by
    more than `slack` instructions, too."""
    complaints = []
    for name, now in found.items():
        was = budget.get(name)
        if was is None:
            complaints.append(f"{name}: {now:.{digits}f} instructions, not in the budget")
        elif now > max(MORE * was, was + slack):
            complaints.append(f"{name}: {now:.{digits}f} instructions, budget {was:.{digits}f}")
    return complaints
