"""What every class of settings shares that is read from the environment."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict


class EnvironmentSettings(BaseSettings):
    """Read from the environment, which wins, and from ``.env`` of the working directory.

    A subclass sets ``env_prefix``. An empty variable counts as unset; variables that it does not know are
    left alone.
    """

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore"
    )
