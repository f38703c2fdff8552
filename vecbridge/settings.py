"""Settings, read from the environment and from a ``.env`` file in the working directory.

The environment wins over the file; an argument or a command-line option wins over both. What a
variable does stands once, in the field's description; ``.env.example`` lists them all.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, ValidationError
from pydantic_settings import SettingsConfigDict

from vecbridge.environment import EnvironmentSettings
from vecbridge.errors import ConfigError

PREFIX: Final = "VECBRIDGE_"


class Settings(EnvironmentSettings):
    """Every setting that vecbridge reads; immutable once read.

    Example:
        >>> Settings(_env_file=None, model="bundled").model
        'bundled'
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    store: str | None = Field(
        default=None,
        description="Store URL that commands use without --store, such as faiss:./vectors#photos.",
    )
    model: str = Field(
        default="bundled",
        description="Embedding model: 'bundled', a CLIP checkpoint's name, or a directory holding one.",
    )
    runtime: Literal["torch", "onnx"] | None = Field(
        default=None,
        description="What runs the model: 'onnx' or 'torch'. Unset, whichever is installed and suits it.",
    )
    device: str = Field(
        default="auto",
        description="Where the model runs: 'auto', 'cpu', 'cuda', 'cuda:0', 'mps'.",
    )
    dtype: str = Field(
        default="auto",
        description="What the model computes in: 'auto', 'float32', 'bfloat16', 'float16' or 'int8'.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="WARNING",
        description="Least severe log lines shown on stderr: DEBUG, INFO, WARNING or ERROR.",
    )
    debug: bool = Field(
        default=False, description="Show where an error comes from, and every log line; as --debug does."
    )


def read_settings() -> Settings:
    """Read the settings of this process and working directory.

    Raises:
        ConfigError: A value that cannot be right; the message names its variable.
    """
    try:
        return Settings()
    except ValidationError as exc:
        problems = "; ".join(f"{variable_name(str(e['loc'][0]))}: {e['msg']}" for e in exc.errors())
        raise ConfigError(problems) from None


def variable_name(field: str) -> str:
    """The environment variable of a field of :class:`Settings`.

    Example:
        >>> variable_name("log_level")
        'VECBRIDGE_LOG_LEVEL'
    """
    return PREFIX + field.upper()
