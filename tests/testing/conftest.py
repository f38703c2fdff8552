"""What the tests of the emulators need."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

if find_spec("weaviate") is None:  # importing it here would warn of authlib, and warnings are errors
    pytest.skip("pip install '.[weaviate]'", allow_module_level=True)
