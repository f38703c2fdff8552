"""The cost models of benchmarks/scale_model.py: they find known costs, and tell how wrong they are."""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def rates(root: Path) -> ModuleType:
    """The module that fits."""
    spec = util.spec_from_file_location("rates", root / "benchmarks" / "support" / "rates.py")
    assert spec
    assert spec.loader
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks for its own annotations
    spec.loader.exec_module(module)
    return module


SIZES = [1_000, 2_000, 4_000, 8_000]


def test_a_fit_finds_the_costs_that_made_the_points(rates: ModuleType) -> None:
    fit = rates.fitted(("1", "n"), SIZES, [3 + 0.002 * size for size in SIZES])
    assert fit.coefficients == pytest.approx((3, 0.002))
    assert fit.at(16_000) == pytest.approx(35)
    assert str(fit) == "3 + 0.002 n"


def test_a_power_law_is_found_and_tells_its_error_too(rates: ModuleType) -> None:
    seconds = [0.003 * size**1.3 for size in SIZES]
    fit = rates.model(rates.POWER, SIZES, seconds)
    assert (fit.factor, fit.exponent) == pytest.approx((0.003, 1.3))
    assert str(fit) == "0.003 n^1.30"
    assert rates.held_out(rates.POWER, SIZES, seconds) == pytest.approx([0] * 4)


def test_no_cost_is_negative(rates: ModuleType) -> None:
    fit = rates.fitted(("1", "n"), SIZES, [0.002 * size - 1 for size in SIZES])
    assert fit.coefficients[0] == 0
    assert fit.coefficients[1] > 0


def test_the_error_is_that_of_points_which_the_fit_has_not_seen(rates: ModuleType) -> None:
    exact = [3 + 0.002 * size for size in SIZES]
    assert rates.held_out(("1", "n"), SIZES, exact) == pytest.approx([0] * 4)
    doubled = [*exact[:-1], 2 * exact[-1]]
    assert rates.held_out(("1", "n"), SIZES, doubled)[-1] == pytest.approx(-0.5)
    curved = [size**2 / 1e6 for size in SIZES]
    assert max(map(abs, rates.held_out(("n",), SIZES, curved))) > 0.5, "a wrong form shows"
