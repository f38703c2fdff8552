"""Options of the Milvus drivers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from vecbridge.environment import EnvironmentSettings
from vecbridge.urls import StoreOptions


class MilvusOptions(StoreOptions):
    """Options of a ``milvus:`` URL.

    Attributes:
        token: API key, instead of a user and a password, as an argument only; where neither is given,
            ``MILVUS_TOKEN`` of the environment or ``.env``.
        tls: Whether the server speaks TLS.
        timeout: Seconds that a request may take.
        consistency: How far behind a search may be: "strong" sees every acknowledged write and costs about
            200 ms, "bounded" some seconds behind, "eventually" anything. All else reads strongly, and so
            do searches for half a minute after ``flush()``.
        columns: How the scalar columns of a collection that is created are stored: "typed" (nullable fields,
            which servers have from 2.5 on) or "dynamic" (in the dynamic field). By default typed on
            milvus-lite, dynamic on a server. One that exists stays as it is.
    """

    token: SecretStr | None = None
    tls: bool = False
    timeout: float = Field(30.0, gt=0, allow_inf_nan=False)
    consistency: Literal["strong", "bounded", "eventually"] = "bounded"
    columns: Literal["typed", "dynamic"] | None = None


class Environment(EnvironmentSettings):
    """What the environment says, and ``.env`` of the working directory."""

    model_config = SettingsConfigDict(env_prefix="MILVUS_")

    token: SecretStr = SecretStr("")
