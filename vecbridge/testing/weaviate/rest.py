"""The REST interface: classes, tenants, what nodes say, and single objects."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import numpy as np

from vecbridge.testing.weaviate import schema
from vecbridge.testing.weaviate.errors import NotEmulated, Refused
from vecbridge.testing.weaviate.objects import Collection, Database, Row, Shard

#: What it emulates, and that it does.
VERSION: Final = "1.39.0-emulated"
_JSON_WORDS: Final = {list: "array", str: "string", int: "number", float: "number", bool: "bool"}
_DEFAULT_LIMIT: Final = 25


class Routes:
    """What each path does.

    Args:
        database: What is served.
        api_key: The key that it takes; "" takes anybody.
    """

    def __init__(self, database: Database, api_key: str) -> None:
        self._database = database
        self._api_key = api_key
        name = "/([^/]+)"
        self._routes: tuple[tuple[str, dict[str, Callable[..., Any]]], ...] = (
            (r"/v1/\.well-known/(?:ready|live)", {"GET": lambda: None}),
            ("/v1/meta", {"GET": self._meta}),
            ("/v1/cluster/statistics", {"GET": self._statistics}),
            ("/v1/schema", {"GET": self._classes, "POST": self._create}),
            (f"/v1/schema{name}", {"GET": self._class, "PUT": self._update, "DELETE": self._drop}),
            (f"/v1/schema{name}/properties", {"POST": self._add_property}),
            (
                f"/v1/schema{name}/tenants",
                {"GET": self._tenants, "POST": self._add_tenants, "DELETE": self._drop_tenants},
            ),
            (f"/v1/nodes{name}", {"GET": self._nodes}),
            ("/v1/objects", {"GET": self._objects, "POST": self._write}),
        )

    def answer(self, method: str, path: str, authorization: str, body: bytes) -> Any:
        """The JSON values of the answer to a request; None is no body.

        Raises:
            Refused: What the server would not do.
        """
        url = urlsplit(path)
        for pattern, methods in self._routes:
            if (found := re.fullmatch(pattern, url.path)) is None:
                continue
            if ".well-known" not in url.path:
                self._require_key(authorization)
            if method not in methods:
                allowed = ",".join(methods)
                raise Refused(f"method {method} is not allowed, but [{allowed}] are", status=405, code=405)
            given: list[Any] = list(found.groups())
            if url.query:
                given.append({key: values[-1] for key, values in parse_qs(url.query).items()})
            if method != "GET" and body:
                given.append(_parsed(body))
            with self._database.lock:
                return _called(methods[method], given)
        raise Refused(f"path {url.path} was not found", status=404, code=404)

    def _require_key(self, authorization: str) -> None:
        if not self._api_key or authorization == f"Bearer {self._api_key}":
            return
        message = "unauthorized: invalid api key"
        if not authorization.startswith("Bearer "):
            message = (
                "anonymous access not enabled. Please authenticate through one of the available methods: "
                "[API-keys]"
            )
        raise Refused(message, status=401, code=401)

    def _meta(self) -> Any:
        return {
            "version": VERSION,
            "hostname": "http://127.0.0.1",
            "modules": {},
            "grpcMaxMessageSize": 104858000,
        }

    def _statistics(self) -> Any:
        node = {"name": "node1", "status": "HEALTHY", "ready": True, "raft": {"state": "Leader", "term": "2"}}
        return {"statistics": [node], "synchronized": True}

    def _classes(self) -> Any:
        return {"classes": [each.described for each in self._database.collections.values()]}

    def _create(self, body: Any = None) -> Any:
        return self._database.create(_class_body(body)).described

    def _class(self, name: str) -> Any:
        return self._existing(name).described

    def _update(self, name: str, body: Any = None) -> Any:
        collection = self._existing(name)
        collection.described = schema.updated(collection.described, _class_body(body))
        collection.train()
        return collection.described

    def _add_property(self, name: str, body: Any) -> Any:
        collection = self._database.find(name)
        if collection is None:
            raise Refused(f'class "{schema.capitalised(name)}": not found')
        schema.add_property(collection.described, body)
        return collection.described["properties"][-1]

    def _drop(self, name: str) -> None:
        self._database.collections.pop(schema.capitalised(name), None)

    def _tenants(self, name: str) -> Any:
        where = "failed to execute query: could not get tenants: could not get tenants"
        collection = self._with_tenants(name, where)
        return [{"name": each, "activityStatus": "HOT"} for each in collection.shards]

    def _add_tenants(self, name: str, body: Any) -> Any:
        collection = self._with_tenants(name, "updating schema: TYPE_ADD_TENANT")
        names = [str(each.get("name", "")) for each in body]
        if any(each.get("activityStatus", "HOT") not in ("HOT", "ACTIVE") for each in body):
            raise NotEmulated("tenants that are not active")
        for each in names:
            if names.count(each) > 1:
                raise Refused(f"tenant name {each} existed multiple times")
        collection.add_tenants(names)
        return [{"name": each} for each in names]

    def _drop_tenants(self, name: str, body: Any) -> None:
        collection = self._with_tenants(name, "updating schema: TYPE_DELETE_TENANT")
        for each in body:
            collection.shards.pop(each, None)

    def _nodes(self, name: str, query: Mapping[str, str] | None = None) -> Any:
        collection = self._database.find(name)
        if collection is None:
            raise Refused(f'class "{name}" not found', status=404)
        shards = None
        if (query or {}).get("output") == "verbose":
            shards = [_shard(collection, each) for each in collection.shards.values()] or None
        node = {"name": "node1", "status": "HEALTHY", "version": VERSION, "shards": shards}
        return {"nodes": [node]}

    def _objects(self, query: Mapping[str, str]) -> Any:
        collection = self._existing(query["class"])
        rows = collection.shard(query.get("tenant", "")).beyond("", int(query.get("limit", _DEFAULT_LIMIT)))
        objects = [_object(collection, each, query.get("include") == "vector") for each in rows]
        return {"deprecations": [], "objects": objects, "totalResults": len(objects)}

    def _write(self, body: Any) -> Any:
        key, tenant = body.get("id") or str(uuid.uuid4()), body.get("tenant", "")
        try:
            uuid.UUID(key)
        except ValueError:
            raise Refused(f'id in body must be of type uuid: "{key}"', code=601) from None
        vectors = {name: _vector(each) for name, each in (body.get("vectors") or {}).items()}
        if body.get("vector"):
            vectors[""] = _vector(body["vector"])
        collection = self._database.find(body["class"])
        if collection is not None:
            if collection.described["multiTenancyConfig"]["autoTenantCreation"] and tenant:
                collection.add_tenants([tenant])
            shard = collection.shards.get(tenant)
            if shard is not None and key in shard.rows:
                raise Refused(f"id '{key}' already exists")
        self._database.write(body["class"], tenant, key, body.get("properties") or {}, vectors, {})
        collection = self._existing(body["class"])
        return _object(collection, collection.shard(tenant).rows[str(uuid.UUID(key))], with_vector=True)

    def _existing(self, name: str) -> Collection:
        collection = self._database.find(name)
        if collection is None:
            raise Refused("", status=404)
        return collection

    def _with_tenants(self, name: str, where: str) -> Collection:
        collection = self._database.find(name)
        if collection is None:
            raise Refused(f"{where}: class not found")
        if not collection.tenants:
            raise Refused(f'{where}: multi-tenancy is not enabled for class "{collection.name}"')
        return collection


class Handler(BaseHTTPRequestHandler):
    """One connection; subclasses say whose routes it goes to."""

    routes: Routes
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        status, values = 200, None
        try:
            values = self.routes.answer(self.command, self.path, self.headers.get("authorization", ""), body)
        except Refused as refused:
            status, values = refused.status, refused.body()
        content = b"" if values is None else json.dumps(values, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise Refused('parsing body from "" failed, because it is no JSON', status=400, code=400) from None


def _called(method: Callable[..., Any], given: list[Any]) -> Any:
    try:
        return method(*given)
    except (AttributeError, KeyError, TypeError) as exc:
        raise Refused(f'parsing body from "" failed, because of {exc!r}', status=400, code=400) from exc


def _class_body(body: Any) -> Mapping[str, Any]:
    if isinstance(body, dict):
        return body
    word = _JSON_WORDS.get(type(body), "null")
    raise Refused(
        f'parsing objectClass body from "" failed, because json: cannot unmarshal {word} into Go value of '
        "type models.Class",
        status=400,
        code=400,
    )


def _shard(collection: Collection, shard: Shard) -> dict[str, Any]:
    return {
        "class": collection.name,
        "name": shard.name,
        "compressed": collection.compressed(shard),
        "loaded": True,
        "objectCount": len(shard.rows),
        "vectorIndexingStatus": "READY",
        "vectorQueueLength": 0,
    }


def _object(collection: Collection, row: Row, with_vector: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "class": collection.name,
        "id": row.uuid,
        "creationTimeUnix": row.created,
        "lastUpdateTimeUnix": row.created,
        "properties": row.properties,
    }
    if with_vector:
        named = {name: _listed(vector) for name, vector in row.vectors.items() if name}
        made |= {"vectors": named} if named else {}
        made |= {"vector": _listed(row.vectors[""])} if "" in row.vectors else {}
    return made


def _listed(vector: bytes) -> list[float]:
    listed: list[float] = np.frombuffer(vector, "<f4").tolist()
    return listed


def _vector(values: Any) -> bytes:
    return np.array(values, "<f4").tobytes()
