"""Every example in a docstring runs, and everything public has one."""

from __future__ import annotations

import doctest
import inspect
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import vecbridge as vb

PACKAGE = Path(vb.__file__).parent
MODULES = sorted(
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for file in PACKAGE.rglob("*.py")
    if ">>> " in file.read_text("utf-8")
)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def doctests_of(module: str) -> list[doctest.DocTest]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of SDKs that are imported here
        return doctest.DocTestFinder(exclude_empty=True).find(import_module(module))


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    output: list[str] = []
    for test in doctests_of(module):
        assert not any(example.options.get(doctest.SKIP) for example in test.examples), (
            f"{test.name} skips one"
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            runner.run(test, out=output.append)
    assert runner.tries, "no docstring holds the example"
    assert runner.failures == 0, "".join(output)


def example_of(name: str, public: Any) -> str:
    """The docstring that has to hold the example of a public name."""
    if not callable(public):  # an alias or a constant, which can have no docstring
        return str(inspect.getdoc(import_module(f"vecbridge.{vb._HOME[name]}")))
    if inspect.isclass(public) and issubclass(public, vb.VecbridgeError):  # they share one
        return str(inspect.getdoc(import_module("vecbridge.errors")))
    return public.__doc__ or ""


@pytest.mark.parametrize("name", vb.__all__)
def test_a_public_name_has_an_example(name: str) -> None:
    assert ">>> " in example_of(name, getattr(vb, name))
