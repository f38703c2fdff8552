"""The conformance suite, shipped so that third-party adapters can prove themselves with it.

In the ``conftest.py`` of your tests::

    from vecbridge.testing.cases import StoreCase

    pytest_plugins = ["vecbridge.testing.plugin"]

    def pytest_vecbridge_cases():
        return [StoreCase(id="mine", url=lambda directory: f"mine://{directory}")]

and in one test module beside it::

    from vecbridge.testing.suite import *

Then ``pytest --stores=mine`` runs every test against it. A feature that the store's capabilities
declare must pass its test; one that they do not declare must raise UnsupportedError.
"""

from vecbridge.testing.inside import driver_of, forget_last_look

__all__ = ["driver_of", "forget_last_look"]
