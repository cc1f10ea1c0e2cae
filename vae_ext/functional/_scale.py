"""The scale of a Gaussian, in the form that the caller has."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from .._reference.formulas import SCALES

Value = TypeVar("Value", bound=float | Tensor)


def scale_of(
    logvar: Value | None, log_std: Value | None, std: Value | None, prefix: str = ""
) -> tuple[int, str, Value]:
    """Which form the one is in that is given, its name, and its value."""
    if logvar is not None and log_std is std is None:  # the usual case, by what costs least
        return 0, f"{prefix}logvar", logvar
    forms = [i for i, value in enumerate((logvar, log_std, std)) if value is not None]
    if len(forms) != 1:
        names = " and ".join(f"{prefix}{SCALES[i]}" for i in forms) or "no scale"
        verb = "were" if forms else "was"
        raise TypeError(
            f"{names} {verb} given, expected one of {prefix}logvar, {prefix}log_std and {prefix}std"
        )
    form = forms[0]
    scale = (logvar, log_std, std)[form]
    assert scale is not None
    return form, f"{prefix}{SCALES[form]}", scale
