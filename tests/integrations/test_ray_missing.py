"""The Ray integration where there is no Ray: it can be imported, and its use says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

import vecbridge.integrations.ray

WITHOUT_RAY = """
import sys
sys.modules["ray"] = None  # as where it is not installed
import vecbridge as vb
import vecbridge.integrations.ray as face
try:
    face.{name}
except vb.MissingDependencyError as error:
    assert isinstance(error, ImportError)
    print(error)
"""


@pytest.mark.parametrize("name", vecbridge.integrations.ray.__all__)
def test_each_name_says_what_to_install_where_ray_is_missing(name: str) -> None:
    code = WITHOUT_RAY.format(name=name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ray[data] is not installed: pip install '.[ray]' in a checkout of vecbridge\n"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Datasinks'"):
        _ = vecbridge.integrations.ray.Datasinks
