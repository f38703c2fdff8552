"""Store URLs: reading, writing, and keeping passwords to themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecbridge.errors import ConfigError, InvalidURLError, UnknownOptionError, VecbridgeError
from vecbridge.urls import StoreOptions, StoreURL, parse, read_options

text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
hosts = st.sampled_from(["", "localhost", "db.example.org", "10.0.0.1", "::1"])


@st.composite
def urls(draw: st.DrawFn) -> StoreURL:
    host = draw(hosts)
    login = draw(st.booleans()) and bool(host)
    path = draw(st.just("") | text.map(lambda part: "/" + part.lstrip("/")))
    return StoreURL(
        scheme=draw(st.sampled_from(["faiss", "milvus+lite", "weaviate"])),
        host=host,
        port=draw(st.none() | st.integers(0, 65_535)) if host else None,
        path=path,
        user=draw(text) if login else "",
        password=draw(text) if login else "",
        options=draw(st.dictionaries(text.filter(lambda key: key != "namespace"), text, max_size=3)),
        collection=draw(st.just("") | text),
        namespace=draw(st.none() | st.just("") | text),
    )


@given(urls())
def test_what_is_written_reads_back_equal_but_for_the_password(url: StoreURL) -> None:
    read = parse(str(url))
    masked = "***" if url.password else ""
    for name in StoreURL.__slots__:
        expected = masked if name == "password" else getattr(url, name)
        assert getattr(read, name) == expected, name


@given(urls().filter(lambda url: url.password))
def test_no_password_is_ever_shown(url: StoreURL) -> None:
    secret = "s3cr3t/?#@:" + url.password
    shown = StoreURL(url.scheme, url.host, url.port, url.path, url.user, secret, url.options, url.collection)
    for form in (str(shown), repr(shown), f"{shown}", str(shown.without_collection())):
        assert "s3cr3t" not in form


@pytest.mark.parametrize("mark", ["/", "?", "#", "\n"])
def test_an_error_never_quotes_a_password_that_was_not_escaped(mark: str) -> None:
    with pytest.raises(InvalidURLError) as caught:
        parse(f"milvus://root:Hunter{mark}Two@host:19530/db")
    assert "Hunter" not in str(caught.value)
    assert "Two" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("mark", [":", "@", "%", " ", "+"])
def test_a_password_may_hold_what_no_url_needs(mark: str) -> None:
    url = parse(f"milvus://root:Hunter{mark}Two@host:19530/db")
    assert (url.user, url.password, url.host) == ("root", f"Hunter{mark}Two", "host")
    assert "Hunter" not in str(url)


@settings(max_examples=300)
@given(st.text(max_size=30) | st.text(max_size=20).map(lambda rest: "faiss://" + rest))
def test_any_text_is_a_url_or_an_invalid_url_error(text: str) -> None:
    try:
        url = parse(text)
    except InvalidURLError:
        pass
    else:
        assert parse(str(url)).path == url.path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("faiss:///data/vectors#photos", {"path": "/data/vectors", "collection": "photos"}),
        ("faiss:./rel", {"path": "./rel"}),
        ("faiss:rel/dir", {"path": "rel/dir"}),
        ("memory://", {"path": "", "host": ""}),
        (
            "milvus://u:p@h:19530/db#photos",
            {"user": "u", "password": "p", "host": "h", "port": 19_530, "path": "/db"},
        ),
        ("milvus+lite:///file.db#photos", {"scheme": "milvus+lite", "path": "/file.db"}),
        ("weaviate://h:8080?grpc_port=50051#photos", {"options": {"grpc_port": "50051"}}),
        ("pinecone://#photos", {"host": "", "path": "", "collection": "photos"}),
        ("faiss:///d?namespace=eu#p", {"namespace": "eu", "options": {}}),
        ("faiss:///d?namespace=#p", {"namespace": ""}),
        ("faiss:///a%20b%23c", {"path": "/a b#c"}),
        ("milvus://u:p%2Fq%40@h", {"password": "p/q@"}),
    ],
)
def test_each_form_of_the_documentation(text: str, expected: dict[str, Any]) -> None:
    url = parse(text)
    assert {name: getattr(url, name) for name in expected} == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "photos",
        "/data",
        "1x://h",
        "FAISS:///x",
        "x://h:port",
        "x://h:99999",
        "x://[::1",
        "x:///d?a=1&a=2",
    ],
)
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(InvalidURLError):
        parse(text)


def test_a_control_character_is_refused_and_an_escaped_one_kept() -> None:
    with pytest.raises(InvalidURLError):
        parse("faiss:///a\nb")
    assert parse("faiss:///a%0Ab").path == "/a\nb"


def test_a_directory_takes_no_host_and_says_what_was_meant() -> None:
    assert parse("faiss:///data/v").directory() == Path("/data/v")
    assert parse("faiss:./v").directory() == Path("v")
    with pytest.raises(InvalidURLError, match=r"faiss:///data/v .*faiss:\./data/v"):
        parse("faiss://data/v").directory()
    for empty in ("faiss://", "faiss:///"):
        with pytest.raises(InvalidURLError, match="which directory"):
            parse(empty).directory()


def test_a_missing_collection_says_how_to_name_it() -> None:
    assert parse("faiss:///d#p").require_collection() == "p"
    with pytest.raises(InvalidURLError, match="#name"):
        parse("faiss:///d").require_collection()
    bare = parse("faiss:///d?namespace=eu#p").without_collection()
    assert (bare.collection, bare.namespace, bare.path) == ("", None, "/d")


class Options(StoreOptions):
    grpc_port: int = 1
    token: str = ""


def test_options_are_typed_and_arguments_stand_above_the_url() -> None:
    url = parse("x://h?grpc_port=5&token=a")
    assert read_options(Options, url, {}) == Options(grpc_port=5, token="a")
    assert read_options(Options, url, {"grpc_port": 7}).grpc_port == 7


def test_an_unknown_option_names_the_nearest_and_no_value() -> None:
    with pytest.raises(UnknownOptionError, match="did you mean 'grpc_port'") as caught:
        read_options(Options, parse("x://h?grpcport=hunter2"), {})
    assert "hunter2" not in str(caught.value)


def test_an_option_of_the_wrong_type_is_named_without_its_value() -> None:
    with pytest.raises(ConfigError, match="grpc_port") as caught:
        read_options(Options, parse("x://h?grpc_port=hunter2"), {})
    assert "hunter2" not in str(caught.value)
    assert isinstance(caught.value, VecbridgeError)
