"""The control plane: indexes are made, described, changed and deleted as the service does it."""

from __future__ import annotations

import pytest

from tests.testing.pinecone.conftest import Api, Clock, Servers, described
from vecbridge.testing.pinecone import Emulator


def refused(answer, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["status"] == status
    assert body["error"]["code"] == code
    return body["error"]["message"]


def test_an_index_is_described_as_it_was_made(control: Api) -> None:
    made = control.post("/indexes", **described(tags={"team": "a"}, deletion_protection="enabled"))
    assert made.status_code == 201
    found = control.get("/indexes/photos").json()
    assert found == made.json()
    assert (found["dimension"], found["metric"], found["vector_type"]) == (2, "cosine", "dense")
    assert found["spec"]["serverless"]["region"] == "us-east-1"
    assert found["tags"] == {"team": "a"}
    assert found["deletion_protection"] == "enabled"
    assert control.get("/indexes").json()["indexes"] == [found]


def test_from_2026_07_on_an_index_has_a_schema_and_a_deployment(servers: Servers, emulator: Emulator) -> None:
    control = servers.api(emulator.host, version="2026-07")
    fields = {"_values": {"type": "dense_vector", "dimension": 3, "metric": "euclidean"}}
    made = control.post("/indexes", name="photos", schema={"fields": fields}).json()
    assert made["schema"] == {"fields": fields}
    assert made["deployment"] == {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"}
    older = servers.api(emulator.host).get("/indexes/photos").json()
    assert (older["dimension"], older["metric"]) == (3, "euclidean")


def test_each_index_has_a_host_and_records_of_its_own(servers: Servers, emulator: Emulator) -> None:
    one, two = servers.index(emulator, name="one"), servers.index(emulator, name="two")
    one.upsert({"id": "a", "values": [1, 0]})
    assert (one.ids(), two.ids()) == (["a"], [])


def test_a_new_index_is_not_ready_at_once(servers: Servers, clock: Clock) -> None:
    emulator = servers.emulator(ready_after=5)
    control = servers.api(emulator.host)
    made = control.post("/indexes", **described()).json()
    assert made["status"] == {"ready": False, "state": "Initializing"}
    index = servers.api(made["host"])
    assert index.upsert({"id": "a", "values": [1, 0]}).status_code == 503
    clock.now = 5
    assert control.get("/indexes/photos").json()["status"] == {"ready": True, "state": "Ready"}
    assert index.upsert({"id": "a", "values": [1, 0]}).status_code == 200


@pytest.mark.parametrize("key", [None, "", "another-key"])
def test_a_missing_or_wrong_key_is_401_on_both_planes(servers: Servers, emulator: Emulator, key) -> None:
    host = servers.index(emulator).host
    refused(servers.api(emulator.host, key).get("/indexes"), 401, "UNAUTHENTICATED")
    answer = servers.api(host, key).post("/query", topK=1, vector=[1, 0])
    assert (answer.status_code, answer.json()["code"]) == (401, 16)


def test_an_unknown_index_is_404(control: Api) -> None:
    for answer in (control.get("/indexes/no"), control.patch("/indexes/no"), control.delete("/indexes/no")):
        assert "no" in refused(answer, 404, "NOT_FOUND")


def test_a_name_is_given_once(control: Api) -> None:
    control.post("/indexes", **described())
    refused(control.post("/indexes", **described()), 409, "ALREADY_EXISTS")


@pytest.mark.parametrize("name", ["", "Photos", "my_photos", "-photos", "photos-", "fötos", "p" * 46])
def test_a_name_is_lower_case_letters_digits_and_hyphens_at_most_45(control: Api, name: str) -> None:
    assert "Name must" in refused(control.post("/indexes", **described(name)), 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("name", ["p", "my-photos", "2026", "p" * 45])
def test_a_good_name_is_taken(control: Api, name: str) -> None:
    assert control.post("/indexes", **described(name)).status_code == 201


@pytest.mark.parametrize(
    "change",
    [
        {"dimension": 0},
        {"dimension": 20_001},
        {"metric": "l2"},
        {"vector_type": "quantum"},
        {"vector_type": "sparse"},
        {"deletion_protection": "maybe"},
        {"tags": {"a b": "c"}},
        {"tags": {f"k{number}": "v" for number in range(21)}},
    ],
    ids=str,
)
def test_a_setting_outside_its_range_is_400(control: Api, change) -> None:
    refused(control.post("/indexes", **described(**change)), 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "change",
    [{"dimension": "2"}, {"dimension": None}, {"spec": None}, {"tags": {"a": 1}}, {"name": 7}],
    ids=str,
)
def test_a_member_of_the_wrong_type_or_missing_is_422(control: Api, change) -> None:
    refused(control.post("/indexes", **described(**change)), 422, "UNPROCESSABLE_ENTITY")


def test_an_unknown_region_is_404(control: Api) -> None:
    spec = {"serverless": {"cloud": "aws", "region": "us-west1"}}
    message = refused(control.post("/indexes", **described(spec=spec)), 404, "NOT_FOUND")
    assert message == "Resource cloud: aws region: us-west1 not found."


def test_pods_are_not_emulated_and_say_so(control: Api) -> None:
    spec = {"pod": {"environment": "us-east-1-aws", "pod_type": "p1.x1"}}
    assert "not emulated" in refused(
        control.post("/indexes", **described(spec=spec)), 400, "INVALID_ARGUMENT"
    )


def test_tags_are_merged_and_an_empty_one_is_removed(control: Api) -> None:
    control.post("/indexes", **described(tags={"a": "1", "b": "2"}))
    assert control.patch("/indexes/photos", tags={"a": "", "c": "3"}).json()["tags"] == {"b": "2", "c": "3"}


def test_deletion_protection_refuses_with_403_until_it_is_taken_off(control: Api) -> None:
    control.post("/indexes", **described(deletion_protection="enabled"))
    refused(control.delete("/indexes/photos"), 403, "FORBIDDEN")
    assert control.patch("/indexes/photos", deletion_protection="disabled").status_code == 202
    assert control.delete("/indexes/photos").status_code == 202
    assert control.get("/indexes").json() == {"indexes": []}


@pytest.mark.parametrize("version", [None, "", "2019-01"])
def test_a_missing_or_unknown_version_of_the_api_is_refused(
    servers: Servers, emulator: Emulator, version
) -> None:
    refused(servers.api(emulator.host, version=version).get("/indexes"), 400, "INVALID_ARGUMENT")


def test_a_member_that_the_description_does_not_name_is_ignored(control: Api, index: Api) -> None:
    assert control.post("/indexes", **described("other"), colour="red").status_code == 201
    assert index.upsert({"id": "a", "values": [1, 0], "colour": "red"}, colour="red").status_code == 200


def test_an_unknown_path_is_404_and_an_unknown_method_405(control: Api, index: Api) -> None:
    refused(control.get("/nothing"), 404, "NOT_FOUND")
    answer = index.get("/query")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
