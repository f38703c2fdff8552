"""The emulator against Pinecone's public description, version 2026-04: every operation, with drawn requests.

``openapi/`` holds the description as its authors published it (github.com/pinecone-io/pinecone-api,
Apache-2.0). What is amended before it is read, and which checks are left out where, stands below.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from schemathesis.checks import CHECKS

from tests.testing.pinecone.conftest import KEY, Api, Servers
from tests.testing.pinecone.conftest import described as index_body

DIRECTORY = Path(__file__).parent / "openapi"
EXAMPLES = 40

NOT_EMULATED = {
    "/bulk/imports": "imports read object storage",
    "/records/": "records of text are embedded by hosted models",
    "/indexes/create-for-model": "such an index is embedded by hosted models",
    "/indexes/{index_name}/backups": "what is in memory has no backups",
    "/backups": "what is in memory has no backups",
    "/restore-jobs": "what is in memory has no backups",
    "/collections": "collections are copies of pod-based indexes",
}

#: Checks that are left out, by operation: what the description does not say, no drawn request can know.
LEFT_OUT = {
    (
        "POST /indexes",
        "positive_data_acceptance",
    ): "names, tags, metrics and pods: rules that are prose or absent",
    (
        "PATCH /indexes/{index_name}",
        "positive_data_acceptance",
    ): "only protection and tags can be changed here",
    ("POST /query", "positive_data_acceptance"): "the index's dimension, and the grammar of filters",
    (
        "POST /vectors/upsert",
        "positive_data_acceptance",
    ): "the index's dimension, ids in ASCII, metadata's types",
    (
        "POST /vectors/update",
        "positive_data_acceptance",
    ): "the index's dimension, ids in ASCII, metadata's types",
    ("POST /vectors/delete", "positive_data_acceptance"): "ids in ASCII, the grammar of filters",
    ("POST /vectors/fetch_by_metadata", "positive_data_acceptance"): "the grammar of filters, tokens",
    ("POST /describe_index_stats", "positive_data_acceptance"): "no filter on serverless",
    ("GET /vectors/fetch", "positive_data_acceptance"): "ids are not empty and in ASCII",
    ("GET /vectors/list", "positive_data_acceptance"): "tokens, and pages of at most 100",
    ("GET /namespaces", "positive_data_acceptance"): "tokens",
    ("POST /namespaces", "positive_data_acceptance"): "names in ASCII",
    ("GET /namespaces/{namespace}", "positive_data_acceptance"): "names in ASCII",
    ("DELETE /namespaces/{namespace}", "positive_data_acceptance"): "names in ASCII",
}


def amended(description: dict[str, Any]) -> dict[str, Any]:
    """The description with what it leaves out, or has otherwise than the service."""
    for operations in description["paths"].values():
        for operation in operations.values():
            # Any string is a version to the description; the service knows some.
            for parameter in operation["parameters"]:
                if parameter["name"] == "X-Pinecone-Api-Version":
                    parameter["schema"]["enum"] = [description["info"]["version"]]
            # The header is required, and no answer is described for a request without it.
            error = operation["responses"]["500" if "500" in operation["responses"] else "4XX"]
            operation["responses"].setdefault("400", error)
    if namespace := description["components"]["schemas"].get("NamespaceDescription"):
        # An integer to the description; the service sends a string.
        namespace["properties"]["record_count"]["type"] = "string"
    return description


def described(plane: str) -> Any:
    text = (DIRECTORY / f"pinecone-{plane}-2026-04.oas.yaml").read_text("utf-8")
    schema = schemathesis.openapi.from_dict(amended(yaml.safe_load(text)))
    schema.config.generation.max_examples = EXAMPLES
    schema.config.generation.deterministic = True
    for path in NOT_EMULATED:
        schema = schema.exclude(path_regex=f"^{path.replace('{', r'[{]')}")
    return schema


control, data = described("control"), described("data")


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Api]]:
    """Both planes, with the names and ids that the description uses as examples."""
    servers = Servers()
    steered, read = servers.emulator(), servers.emulator()
    index = servers.index(read)
    rows = [
        {"id": f"id-{n}", "values": [1, n], "metadata": {"genre": "comedy", "year": 2019}} for n in range(9)
    ]
    for namespace in ("", "example-namespace"):
        index.upsert(*rows, namespace=namespace).raise_for_status()
    yield {"control": servers.api(steered.host), "data": index}
    servers.close()


def holds(case: Any, api: Api) -> None:
    operation = f"{case.method} {case.path}"
    checks = [check for check in CHECKS.get_all() if (operation, check.__name__) not in LEFT_OUT]
    case.call_and_validate(base_url=api.host, headers={"Api-Key": KEY}, checks=checks)


@control.parametrize()
def test_the_control_plane_answers_as_described(case: Any, hosts: dict[str, Api]) -> None:
    hosts["control"].post("/indexes", **index_body("test-index"))  # if a request before has deleted it
    holds(case, hosts["control"])


@data.parametrize()
def test_the_data_plane_answers_as_described(case: Any, hosts: dict[str, Api]) -> None:
    holds(case, hosts["data"])
