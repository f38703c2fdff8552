"""An empty variable of the environment counts as unset, for every setting of every driver."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from vecbridge.environment import EnvironmentSettings

for _module in ("settings", "stores.milvus.driver", "stores.weaviate.options", "stores.pinecone.options"):
    import_module(f"vecbridge.{_module}")


def all_settings() -> list[type[EnvironmentSettings]]:
    return sorted(EnvironmentSettings.__subclasses__(), key=lambda each: each.__module__)


def variables(settings: type[EnvironmentSettings]) -> list[str]:
    prefix = settings.model_config.get("env_prefix", "")
    return [f"{prefix}{name}".upper() for name in settings.model_fields]


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine reaches the tests, and no ``.env``."""
    monkeypatch.chdir(tmp_path)
    for settings in all_settings():
        for name in variables(settings):
            monkeypatch.delenv(name, raising=False)


def test_the_settings_of_vecbridge_and_of_three_drivers_are_there() -> None:
    names = {name for settings in all_settings() for name in variables(settings)}
    assert {"VECBRIDGE_MODEL", "MILVUS_TOKEN", "WEAVIATE_API_KEY", "PINECONE_API_KEY"} <= names


@pytest.mark.parametrize("settings", all_settings(), ids=lambda each: each.__name__)
def test_empty_variables_are_as_good_as_none(
    settings: type[EnvironmentSettings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unset = settings()
    for name in variables(settings):
        monkeypatch.setenv(name, "")
    assert settings() == unset
    (tmp_path / ".env").write_text("".join(f"{name}=\n" for name in variables(settings)))
    assert settings() == unset


@pytest.mark.parametrize(
    ("module", "variable", "field"),
    [
        ("settings", "VECBRIDGE_MODEL", "model"),
        ("stores.pinecone.options", "PINECONE_API_KEY", "api_key"),
    ],
)
def test_an_empty_variable_does_not_hide_what_the_file_says(
    module: str, variable: str, field: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    [settings] = [each for each in all_settings() if each.__module__ == f"vecbridge.{module}"]
    (tmp_path / ".env").write_text(f"{variable}=of-the-file\n")
    monkeypatch.setenv(variable, "")
    value = getattr(settings(), field)
    assert getattr(value, "get_secret_value", lambda: value)() == "of-the-file"
