"""The accuracy that docs/accuracy.md states, on smaller sets of the same inputs."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch

import vae_ext
from tests import devices
from tests.arithmetic import HAS_LONG, LONG, Bulk
from tests.cases import KL, MEASURED, Case, Quantity
from tests.exact import box_muller
from tests.inputs import Draw, special, special_counts

from .limits import depends_on_nan, value
from .measure import (
    bulk,
    digits,
    error,
    evaluate,
    exact_and_terms,
    limits,
    long_array,
    spacing,
    used,
)

N = 1 << 14
Measured = tuple[Case, Quantity, "int | None"]
QUANTITIES: list[Measured] = [(c, q, by) for c in MEASURED for q, by in c.quantities]
NAMES = [f"{c.name}-{q.name}-{q.unit}" for c, q, _ in QUANTITIES]


def check(measured: Measured, dtype: torch.dtype, n: int = N) -> None:
    case, quantity, by = measured
    limit = limits(quantity, dtype, "cuda" if devices.machine_code else "cpu")
    for name, inputs in case.sets(Draw(n)).items():
        if not used(quantity, by, name, dtype):
            continue
        rounded = [t.to(dtype) for t in inputs]
        got = evaluate(case.elementwise, rounded, by)
        found = error(quantity, got, *exact_and_terms(quantity, rounded), dtype, limit)
        assert found.max <= limit, (
            f"{name}: {found.max:.3f} {quantity.unit} > {limit} at "
            f"{[t.double()[found.at].item() for t in rounded]}, got {got[found.at].item()!r}"
        )


@pytest.mark.parametrize("measured", QUANTITIES, ids=NAMES)
def test_float32(measured: Measured, simd: str) -> None:
    check(measured, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("measured", QUANTITIES, ids=NAMES)
def test_other_dtypes(measured: Measured, dtype: torch.dtype) -> None:
    check(measured, dtype)


Row = tuple[float, ...]


@functools.cache  # the same for every instruction set
def exact_specials(
    measured: Measured, dtype: torch.dtype
) -> tuple[list[torch.Tensor], list[Row], list[Any]]:
    """Every combination of the special values, as tensors and as rows; what each should give."""
    case, quantity, by = measured
    targets = "target" in case.makes
    made = special(len(case.arguments), targets)
    if case.fixed:
        made = special_counts(case.arguments)
    inputs = [t.to(dtype) for t in made]
    rows = list(zip(*(t.double().tolist() for t in inputs), strict=True))
    largest = torch.finfo(dtype).max
    return inputs, rows, [value(case, quantity, by, list(row), largest) for row in rows]


OF_ANY_NUMBERS = [(q, name) for q, name in zip(QUANTITIES, NAMES, strict=True) if q[0].any_numbers]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "measured", [q for q, _ in OF_ANY_NUMBERS], ids=[name for _, name in OF_ANY_NUMBERS]
)
def test_special_values(measured: Measured, dtype: torch.dtype, simd: str) -> None:
    """The limit at infinity, NaN for NaN, and finite results wherever they are representable."""
    case, quantity, by = measured
    inputs, rows, exact = exact_specials(measured, dtype)
    got = evaluate(case.elementwise, inputs, by)
    known = [i for i, v in enumerate(exact) if v is not None]
    wanted = np.array([v for v in exact if v is not None], dtype=LONG)
    terms = bulk(quantity.size, [t[known] for t in inputs])
    terms = np.where(np.isfinite(terms), terms, np.inf)
    limit = limits(quantity, dtype, "cuda" if devices.machine_code else "cpu")
    results = got[known]
    result = long_array(results)
    nan_in = np.isnan(wanted)
    finite = np.isfinite(wanted) & (np.abs(wanted) <= LONG(torch.finfo(dtype).max))
    for i, k in enumerate(known):
        where = f"at {rows[k]}: {result[i]}, exact {wanted[i]}"
        if depends_on_nan(case, by, list(rows[k])):
            assert np.isnan(result[i]), where
        elif nan_in[i]:
            continue  # the limit is undefined
        elif finite[i]:
            assert np.isfinite(result[i]), where
        else:
            assert not np.isnan(result[i]), where
            assert np.sign(result[i]) == np.sign(wanted[i]), where
    fine = [
        i
        for i in range(len(known))
        if finite[i] and (quantity.unit == "ulp" or np.isfinite(terms[i]))
    ]
    if fine:
        found = error(
            quantity,
            results[fine],
            wanted[fine],
            terms[fine],
            dtype,
            limit,
        )
        assert found.max <= limit, f"{found.max} at {rows[known[fine[found.at]]]}"


def test_variates(simd: str) -> None:
    """From the same words, to 1e-6 absolute; float64 to 1e-14."""
    n = 1 << 20
    words = vae_ext.testing.philox_words(n, 3).numpy().astype(LONG)
    even, odd = box_muller(Bulk, words[0::2], words[1::2])
    exact = np.stack([even, odd], 1).reshape(-1)
    for dtype, limit in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        eps = long_array(vae_ext.standard_normal(n, seed=3, dtype=dtype))
        assert float(np.abs(eps - exact).max()) <= limit


@pytest.mark.skipif(not HAS_LONG, reason="long double has no more digits than double here")
@pytest.mark.parametrize("measured", QUANTITIES, ids=NAMES)
def test_the_oracle(measured: Measured) -> None:
    """80 bits against 50 digits: far below what is measured with them."""
    case, quantity, _ = measured
    for inputs in case.sets(Draw(100)).values():
        rounded = [t.float() for t in inputs]
        size = digits(quantity.size, rounded)
        for formula in (quantity.value, quantity.size):
            quick, slow = bulk(formula, rounded), digits(formula, rounded)
            with np.errstate(all="ignore"):
                off = np.where(quick == slow, 0, np.abs(quick - slow) / size)
            # Parts of a mixture that differ by thousands of nats: exponentials of that.
            mixes = "mixture_logits" in case.arguments
            assert float(np.nanmax(off)) <= 2.0 ** (-44 if mixes else -56)


def test_the_measure_sees_an_error() -> None:
    """One unit in the last place is one ulp, and a wrong infinity is inf."""
    quantity = KL.value
    x = torch.tensor([1.0, 3.0, 1e-40])
    exact = long_array(x)
    off = torch.nextafter(x, torch.tensor(math.inf))
    assert error(quantity, x, exact, None, torch.float32).max == 0
    for i in range(3):
        found = error(quantity, off[i : i + 1], exact[i : i + 1], None, torch.float32)
        assert found.max == 1
        assert spacing(exact, torch.float32)[i] == float(off[i].double() - x[i].double())
    wrong = torch.tensor([1.0, math.inf, 1e-40])
    assert error(quantity, wrong, exact, None, torch.float32).max == math.inf
    assert error(quantity, torch.tensor([math.nan] * 3), exact, None, torch.float32).max == math.inf
