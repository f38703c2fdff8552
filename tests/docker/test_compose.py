"""The Milvus stack as compose parses it: no default passwords, ports only on loopback, limited resources."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

PASSWORDS = {
    "STACK_MILVUS_ROOT_PASSWORD": "root-secret",
    "STACK_MINIO_ROOT_USER": "storage-user",
    "STACK_MINIO_ROOT_PASSWORD": "storage-secret",
}
BASE, GPU = "compose.yaml", "compose.gpu.yaml"
# The files and profiles of `make stack-up` with and without GPU=1 and ATTU=1.
VARIANTS = [(files, profiles) for files in ([BASE], [BASE, GPU]) for profiles in ([], ["attu"])]

Parse = Callable[..., subprocess.CompletedProcess[str]]
Load = Callable[..., dict[str, Any]]
every_variant = pytest.mark.parametrize(
    ("files", "profiles"), VARIANTS, ids=["base", "attu", "gpu", "gpu-attu"]
)


@pytest.fixture
def stack(root: Path) -> Path:
    return root / "docker" / "milvus"


@pytest.fixture
def parse(compose: Path, stack: Path, tmp_path: Path) -> Parse:
    """Runs `docker compose config` on the files with these variables only, none of this machine's."""

    def run(
        files: list[str], profiles: list[str], variables: Mapping[str, str], folder: Path = stack
    ) -> subprocess.CompletedProcess[str]:
        env_file = tmp_path / "stack.env"
        env_file.write_text("".join(f"{name}='{value}'\n" for name, value in variables.items()), "utf-8")
        command = [str(compose), "--env-file", str(env_file)]
        command += [word for file in files for word in ("-f", str(folder / file))]
        command += [word for profile in profiles for word in ("--profile", profile)]
        environment = {"PATH": os.defpath, "HOME": str(tmp_path)}
        command += ["config", "--format", "json"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture
def load(parse: Parse) -> Load:
    """The configuration that compose would start; AssertionError if the parser refuses the files."""

    def run(files: list[str], profiles: list[str], variables: Mapping[str, str] = PASSWORDS) -> Any:
        done = parse(files, profiles, variables)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""  # a variable without value or default is only a warning
        return json.loads(done.stdout)

    return run


@pytest.fixture
def example(root: Path) -> dict[str, str]:
    """The variables of the stack in .env.example, with their values there."""
    text = (root / ".env.example").read_text("utf-8")
    return dict(re.findall(r"^# (STACK_[A-Z0-9_]+)=(.*)$", text, re.MULTILINE))


@every_variant
def test_the_files_parse_and_hold_the_services(load: Load, files: list[str], profiles: list[str]) -> None:
    services = load(files, profiles)["services"]
    assert set(services) == {"etcd", "minio", "milvus", *profiles}


@pytest.mark.parametrize("missing", PASSWORDS)
@pytest.mark.parametrize("empty", [False, True], ids=["unset", "empty"])
@every_variant
def test_a_password_that_is_not_set_stops_compose(
    parse: Parse, files: list[str], profiles: list[str], missing: str, empty: bool
) -> None:
    variables = {name: value for name, value in PASSWORDS.items() if name != missing}
    done = parse(files, profiles, variables | ({missing: ""} if empty else {}))
    assert done.returncode != 0
    assert f"required variable {missing} is missing a value: set it in .env, see .env.example" in done.stderr


@every_variant
def test_no_default_password_of_milvus_or_minio_is_used(
    load: Load, files: list[str], profiles: list[str]
) -> None:
    text = json.dumps(load(files, profiles))
    assert "minioadmin" not in text
    assert '"Milvus"' not in text


@every_variant
def test_milvus_asks_for_the_password_and_shares_the_storage_credentials(
    load: Load, files: list[str], profiles: list[str]
) -> None:
    services = load(files, profiles)["services"]
    milvus, minio = services["milvus"]["environment"], services["minio"]["environment"]
    assert milvus["COMMON_SECURITY_AUTHORIZATIONENABLED"] == "true"
    assert milvus["COMMON_SECURITY_DEFAULTROOTPASSWORD"] == "root-secret"
    assert milvus["MINIO_ACCESS_KEY_ID"] == minio["MINIO_ROOT_USER"] == "storage-user"
    assert milvus["MINIO_SECRET_ACCESS_KEY"] == minio["MINIO_ROOT_PASSWORD"] == "storage-secret"


@every_variant
def test_a_secret_is_passed_only_to_the_services_that_need_it(
    load: Load, files: list[str], profiles: list[str]
) -> None:
    holders: dict[str, set[str]] = {}
    for name, service in load(files, profiles)["services"].items():
        for secret in PASSWORDS.values():
            if secret in json.dumps(service):
                holders.setdefault(secret, set()).add(name)
    assert holders == {
        "root-secret": {"milvus"},
        "storage-user": {"milvus", "minio"},
        "storage-secret": {"milvus", "minio"},
    }


@every_variant
def test_only_milvus_and_attu_are_published_and_on_loopback(
    load: Load, files: list[str], profiles: list[str]
) -> None:
    published = {
        (name, port["host_ip"], port["published"], port["target"])
        for name, service in load(files, profiles)["services"].items()
        for port in service.get("ports", [])
    }
    wanted = {("milvus", "127.0.0.1", "19530", 19530)}
    if profiles:
        wanted.add(("attu", "127.0.0.1", "8000", 3000))
    assert published == wanted


def test_address_and_ports_follow_their_variables(load: Load) -> None:
    moved = {"STACK_BIND": "192.0.2.7", "STACK_MILVUS_PORT": "29530", "STACK_ATTU_PORT": "28000"}
    services = load([BASE], ["attu"], PASSWORDS | moved)["services"]
    ports = [
        (port["host_ip"], port["published"]) for name in services for port in services[name].get("ports", [])
    ]
    assert sorted(ports) == [("192.0.2.7", "28000"), ("192.0.2.7", "29530")]


@every_variant
def test_every_image_is_pinned_to_a_release(load: Load, files: list[str], profiles: list[str]) -> None:
    for name, service in load(files, profiles)["services"].items():
        assert "build" not in service, name
        _, _, tag = service["image"].rpartition("/")[2].partition(":")
        assert re.fullmatch(r"v\d+\.\d+\.\d+(-gpu)?|RELEASE\.\d{4}-\d\d-\d\dT[\d-]+Z", tag), service["image"]


@every_variant
def test_every_service_has_a_health_check_limits_and_a_restart_policy(
    load: Load, files: list[str], profiles: list[str]
) -> None:
    for name, service in load(files, profiles)["services"].items():
        check = service["healthcheck"]
        assert check["test"][0] in ("CMD", "CMD-SHELL"), name
        assert not check.get("disable"), name
        assert {"interval", "timeout", "retries", "start_period"} <= set(check), name
        limits = service["deploy"]["resources"]["limits"]
        assert float(limits["cpus"]) > 0, name
        assert int(limits["memory"]) >= 2**29, name
        assert service["restart"] == "unless-stopped", name
        assert {"max-size", "max-file"} <= set(service["logging"]["options"]), name


@every_variant
def test_no_service_has_more_rights_than_a_plain_container(
    load: Load, files: list[str], profiles: list[str]
) -> None:
    for name, service in load(files, profiles)["services"].items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for right in ("privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode"):
            assert right not in service, (name, right)


@every_variant
def test_services_wait_until_what_they_need_is_healthy(
    load: Load, files: list[str], profiles: list[str]
) -> None:
    services = load(files, profiles)["services"]
    needs = {
        name: {needed: how["condition"] for needed, how in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    assert needs["milvus"] == {"etcd": "service_healthy", "minio": "service_healthy"}
    assert needs.get("attu", {"milvus": "service_healthy"}) == {"milvus": "service_healthy"}


@every_variant
def test_data_lives_in_named_volumes(load: Load, files: list[str], profiles: list[str]) -> None:
    model = load(files, profiles)
    mounts = {
        name: [(mount["type"], mount["source"]) for mount in service.get("volumes", [])]
        for name, service in model["services"].items()
    }
    assert {name: found for name, found in mounts.items() if found} == {
        name: [("volume", name)] for name in ("etcd", "minio", "milvus")
    }
    # README, backups: the names on the machine.
    assert {volume["name"] for volume in model["volumes"].values()} == {
        "vecbridge-milvus_etcd", "vecbridge-milvus_minio", "vecbridge-milvus_milvus",
    }  # fmt: skip


@every_variant
def test_only_milvus_reaches_etcd_and_the_storage(load: Load, files: list[str], profiles: list[str]) -> None:
    model = load(files, profiles)
    inside = {name for name, service in model["services"].items() if "inner" in service["networks"]}
    assert inside == {"etcd", "minio", "milvus"}
    assert model["networks"]["inner"]["internal"] is True
    assert (
        set(model["services"]["etcd"]["networks"]) == set(model["services"]["minio"]["networks"]) == {"inner"}
    )


def test_the_gpu_file_changes_the_image_reserves_a_gpu_and_changes_nothing_else(load: Load) -> None:
    plain, gpu = load([BASE], []), load([BASE, GPU], [], PASSWORDS | {"STACK_GPU": "3"})
    assert gpu["services"]["milvus"]["image"] == plain["services"]["milvus"]["image"] + "-gpu"
    [device] = gpu["services"]["milvus"]["deploy"]["resources"].pop("reservations")["devices"]
    assert (device["driver"], device["device_ids"], device["capabilities"]) == ("nvidia", ["3"], ["gpu"])
    gpu["services"]["milvus"]["image"] = plain["services"]["milvus"]["image"]
    assert gpu == plain


@pytest.mark.parametrize("files", [[BASE], [BASE, GPU]], ids=["base", "gpu"])
def test_one_variable_chooses_another_release(load: Load, files: list[str]) -> None:
    image = load(files, [], PASSWORDS | {"STACK_MILVUS_VERSION": "v2.6.9"})["services"]["milvus"]["image"]
    assert image.removesuffix("-gpu") == "milvusdb/milvus:v2.6.9"


def test_the_readme_names_the_images_that_run(load: Load, root: Path) -> None:
    page = (root / "docker" / "README.md").read_text("utf-8")
    for files in ([BASE], [BASE, GPU]):
        for service in load(files, ["attu"])["services"].values():
            assert f"`{service['image']}`" in page


def test_env_example_states_the_defaults_of_the_files_and_no_password(
    load: Load, example: dict[str, str]
) -> None:
    assert {name for name, value in example.items() if not value} == set(PASSWORDS)
    assert load([BASE, GPU], ["attu"], example | PASSWORDS) == load([BASE, GPU], ["attu"])


def test_each_variable_of_env_example_changes_what_compose_starts(
    load: Load, example: dict[str, str]
) -> None:
    plain = load([BASE, GPU], ["attu"])
    for name in example:
        value = "192.0.2.7" if name == "STACK_BIND" else "4g" if name.endswith("_MEMORY") else "7"
        assert load([BASE, GPU], ["attu"], PASSWORDS | {name: value}) != plain, name


def test_env_example_lists_each_variable_of_the_files(stack: Path, example: dict[str, str]) -> None:
    text = "\n".join(path.read_text("utf-8") for path in stack.glob("*.yaml"))
    code = "\n".join(
        line.partition(" #")[0] for line in text.splitlines() if not line.lstrip().startswith("#")
    )
    assert set(re.findall(r"\$\{?(\w+)", code)) == set(example)


def test_passwords_with_special_characters_are_passed_on_unchanged(load: Load) -> None:
    odd = 'p@ss:w/rd #1 $HOME "x" %41 é'
    services = load([BASE], [], PASSWORDS | {"STACK_MILVUS_ROOT_PASSWORD": odd})["services"]
    # compose prints it so that it can be parsed again: with two dollar signs.
    assert services["milvus"]["environment"]["COMMON_SECURITY_DEFAULTROOTPASSWORD"].replace("$$", "$") == odd


@pytest.mark.parametrize(
    ("written", "broken"),
    [
        ("services:", "servces:"),
        ("restart: unless-stopped", "restarts: unless-stopped"),
        ("condition: service_healthy", "condition: service_lively"),
        ("- inner", "- indoors"),
    ],
)
def test_the_parser_refuses_a_broken_file(
    parse: Parse, stack: Path, tmp_path: Path, written: str, broken: str
) -> None:
    text = (stack / BASE).read_text("utf-8")
    assert written in text
    (tmp_path / BASE).write_text(text.replace(written, broken, 1), "utf-8")
    assert parse([BASE], [], PASSWORDS, folder=tmp_path).returncode != 0
