"""What a collection is: its vectors, its fields, its ids; frozen, and the same after a JSON round trip."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from dataclasses import field as dataclass_field
from enum import StrEnum
from functools import partial
from typing import Any, Final, Literal, cast, get_args

from vecbridge import indexes, names
from vecbridge.errors import SchemaError, suggestion
from vecbridge.identity import EmbedderIdentity as EmbedderIdentity
from vecbridge.identity import SourceIds
from vecbridge.indexes import Auto, IndexParams
from vecbridge.texts import shown

FieldType = Literal[
    "bool", "int64", "float64", "string", "timestamp", "list<string>", "list<int64>", "list<float64>", "json"
]
IdType = Literal["string", "int64"]

MAX_DIM: Final = 65_536
AUTO: Final = Auto()


class Metric(StrEnum):
    """How two vectors are compared.

    COSINE is the similarity in [-1, 1], DOT the inner product, L2 the *squared* Euclidean
    distance, as FAISS, Milvus, Weaviate and Pinecone report it.

    Example:
        >>> import vecbridge as vb
        >>> vb.Metric("l2").higher_is_better, vb.Metric.COSINE.higher_is_better
        (False, True)
    """

    COSINE = "cosine"
    DOT = "dot"
    L2 = "l2"

    @property
    def higher_is_better(self) -> bool:
        """The direction of the scores: only L2 is a distance."""
        return self is not Metric.L2


@dataclass(frozen=True, slots=True)
class Field:
    """A scalar column.

    Attributes:
        name: ``[A-Za-z][A-Za-z0-9_]*``, unique ignoring case.
        type: bool, int64, float64, string, timestamp (microseconds, UTC), list<string>, list<int64>,
            list<float64> or json.
        indexed: A hint that filters use it: a backend with optional scalar indexes makes one. No comparison
            looks at it, nor does an answer depend on it.

    Raises:
        SchemaError: No such type.

    Example:
        >>> import vecbridge as vb
        >>> fields = [vb.Field("year", "int64", indexed=True), vb.Field("title", "string")]
        >>> spec = vb.CollectionSpec.single("photos", dim=512, fields=fields)
        >>> spec.field("year").indexed
        True
    """

    name: str
    type: FieldType
    indexed: bool = dataclass_field(default=False, kw_only=True, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.indexed, bool):
            raise SchemaError(f"field {self.name!r}: indexed={shown(self.indexed)}: True or False")
        if self.type not in get_args(FieldType):
            raise SchemaError(
                f"field {self.name!r}: type {shown(self.type)} is none of {', '.join(get_args(FieldType))}"
            )

    def __str__(self) -> str:
        return self.type


@dataclass(frozen=True, slots=True)
class VectorField:
    """A column of float32 vectors.

    Attributes:
        name: Name of the column.
        dim: Length of each vector.
        metric: How vectors are compared; a name ("cosine") is taken too.
        index: How they are searched.
        embedder: Which model makes them, if that is known.

    Raises:
        SchemaError: A dim, a metric or an index that cannot be, or an embedder of another dim.

    Example:
        A collection with two vectors a row:

        >>> import vecbridge as vb
        >>> picture = vb.VectorField("picture", 512, "cosine", vb.HNSW(m=32))
        >>> caption = vb.VectorField("caption", 384, "dot")
        >>> vb.CollectionSpec("photos", (picture, caption)).column_names
        ('id', 'picture', 'caption')
    """

    name: str
    dim: int
    metric: Metric = Metric.COSINE
    index: IndexParams = AUTO
    embedder: EmbedderIdentity | None = None

    def __post_init__(self) -> None:
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or not 1 <= self.dim <= MAX_DIM:
            raise SchemaError(
                f"vector {self.name!r}: dim={shown(self.dim)}: a whole number from 1 to {MAX_DIM}"
            )
        if not isinstance(self.index, IndexParams):
            raise SchemaError(
                f"vector {self.name!r}: index={shown(self.index)}: one of vecbridge's, such as HNSW()"
            )
        if self.index.kind == "ivf_pq" and self.dim % cast(indexes.IVFPQ, self.index).m:
            raise SchemaError(f"vector {self.name!r}: IVFPQ m does not divide dim={self.dim}")
        if self.embedder is not None and self.embedder.dim != self.dim:
            raise SchemaError(
                f"vector {self.name!r}: dim={self.dim}, but {self.embedder.model} makes {self.embedder.dim}"
            )
        object.__setattr__(self, "metric", _metric(self.metric))

    def __str__(self) -> str:
        model = f", of {self.embedder.model} ({self.embedder.revision[:12]})" if self.embedder else ""
        return f"{self.dim} dimensions, {self.metric}, {self.index}{model}"


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """The schema of a collection.

    Attributes:
        name: ``[a-z][a-z0-9_]{0,40}``.
        vectors: One or more vector fields.
        fields: The scalar fields.
        id_type: "string" or "int64".
        namespaced: Whether the collection is divided into namespaces.
        ids: How ids are made from files; None if they are no files'. It is kept with the collection, and no
            comparison of specs looks at it.

    Raises:
        SchemaError: A name, type or combination that no backend takes.

    Example:
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("photos", dim=512, metric="dot", fields={"year": "int64"})
        >>> spec.column_names
        ('id', 'vector', 'year')
        >>> vb.CollectionSpec.from_json(spec.to_json()) == spec
        True
    """

    name: str
    vectors: tuple[VectorField, ...]
    fields: tuple[Field, ...] = ()
    id_type: IdType = "string"
    namespaced: bool = False
    ids: SourceIds | None = dataclass_field(default=None, kw_only=True, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "vectors", tuple(self.vectors))
        object.__setattr__(self, "fields", tuple(self.fields))
        if not names.COLLECTION.fullmatch(self.name):
            raise SchemaError(f"collection name {self.name!r}: a small letter, then up to 40 of a-z 0-9 _")
        if self.id_type not in get_args(IdType):
            raise SchemaError(f"id_type={shown(self.id_type)}: 'string' or 'int64'")
        if not isinstance(self.namespaced, bool):
            raise SchemaError(f"namespaced={shown(self.namespaced)}: True or False")
        if not self.vectors:
            raise SchemaError(f"collection {self.name!r} has no vector field")
        _check_names(self)

    def __str__(self) -> str:
        return f"the spec of {self.name!r}"

    @classmethod
    def single(
        cls,
        name: str,
        *,
        dim: int,
        metric: Metric | str = Metric.COSINE,
        index: IndexParams = AUTO,
        fields: Mapping[str, FieldType] | Iterable[Field] = (),
        id_type: IdType = "string",
        namespaced: bool = False,
        embedder: EmbedderIdentity | None = None,
        ids: SourceIds | None = None,
    ) -> CollectionSpec:
        """A collection with one vector field, called ``vector``.

        Args:
            name: Name of the collection.
            dim: Length of its vectors.
            metric: "cosine", "dot" or "l2".
            index: How it is searched; Auto() leaves the choice to the backend.
            fields: Scalar fields, as {name: type} or Field objects.
            id_type: "string" or "int64".
            namespaced: Whether it is divided into namespaces.
            embedder: Which model makes the vectors.
            ids: How ids are made from files.

        Example:
            >>> CollectionSpec.single("photos", dim=512, fields={"year": "int64"}).vector.metric
            <Metric.COSINE: 'cosine'>
        """
        if isinstance(fields, Mapping):
            fields = [Field(key, value) for key, value in fields.items()]
        vector = VectorField("vector", dim, _metric(metric), index, embedder)
        return cls(name, (vector,), tuple(fields), id_type, namespaced, ids=ids)

    @classmethod
    def foreign(
        cls, name: str, vectors: tuple[VectorField, ...], fields: tuple[Field, ...], id_type: IdType, *,
        namespaced: bool = False,
    ) -> CollectionSpec:  # fmt: skip
        """The spec of a collection that vecbridge did not make, under the names that it has.

        Such a spec describes; one that is built has names that every backend takes, so that ``create``
        wants it :meth:`renamed` where its own are none.
        """
        spec = object.__new__(cls)
        values = {"name": name, "vectors": vectors, "fields": fields, "id_type": id_type}
        for key, value in {**values, "namespaced": namespaced, "ids": None}.items():
            object.__setattr__(spec, key, value)
        return spec

    @property
    def vector(self) -> VectorField:
        """The default vector field: the first."""
        return self.vectors[0]

    def vector_field(self, name: str | None = None) -> VectorField:
        """The vector field of that name; None is the default one.

        Raises:
            SchemaError: There is none, or none was named where there are several.
        """
        if name is None:
            if len(self.vectors) > 1:
                names = ", ".join(each.name for each in self.vectors)
                raise SchemaError(f"{self.name!r} has several vector fields: say using= one of {names}")
            return self.vector
        for each in self.vectors:
            if each.name == name:
                return each
        raise SchemaError(f"{self.name!r} has no vector field {name!r}{suggestion(name, self.column_names)}")

    def field(self, name: str) -> Field:
        """The scalar field of that name.

        Raises:
            SchemaError: There is none.
        """
        for each in self.fields:
            if each.name == name:
                return each
        raise SchemaError(f"{self.name!r} has no field {name!r}{suggestion(name, self.column_names)}")

    @property
    def column_names(self) -> tuple[str, ...]:
        """Every column in canonical order: id, vectors, fields."""
        return ("id", *(each.name for each in self.vectors), *(each.name for each in self.fields))

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON values; :meth:`from_dict` is the inverse."""
        return {
            "name": self.name,
            "vectors": [_vector_to_dict(each) for each in self.vectors],
            "fields": [  # "indexed" where it is set alone: other specs keep their bytes
                {"name": each.name, "type": each.type} | ({"indexed": True} if each.indexed else {})
                for each in self.fields
            ],
            "id_type": self.id_type,
            "namespaced": self.namespaced,
        } | ({"ids": asdict(self.ids)} if self.ids else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, foreign: bool = False) -> CollectionSpec:
        """Reads what :meth:`to_dict` wrote.

        Args:
            values: JSON values.
            foreign: Whether it may be the spec of a collection that vecbridge did not make.

        Raises:
            SchemaError: Something is missing, unknown or of the wrong type.
        """
        try:
            vectors = [_vector(each) for each in values["vectors"]]
            fields = [Field(**each) for each in values["fields"]]
            ids = SourceIds(**values["ids"]) if values.get("ids") else None
            build = cls.foreign if foreign else partial(cls, ids=ids)
            return build(
                values["name"], tuple(vectors), tuple(fields), values["id_type"],
                namespaced=values["namespaced"],
            )  # fmt: skip
        except (KeyError, TypeError) as exc:
            raise SchemaError(f"not a collection spec: {exc!r}") from exc

    def to_json(self) -> str:
        """The spec as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> CollectionSpec:
        """Reads what :meth:`to_json` wrote.

        Raises:
            SchemaError: Not JSON, or not a spec.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as exc:  # no JSON, too long a number, too deep
            raise SchemaError(f"not a collection spec: {exc}") from exc
        return cls.from_dict(values)

    def grown(self, fields: Iterable[Field]) -> CollectionSpec | None:
        """The spec with more scalar fields at its end; None if it has them all.

        Raises:
            SchemaError: It has one of them with another type, or a name cannot be.
        """
        types = {field.name: field.type for field in self.fields}
        missing = []
        for field in fields:
            if field.name not in types:
                missing.append(field)
            elif types[field.name] != field.type:
                raise SchemaError(
                    f"{self.name!r} has a field {field.name!r} of type {types[field.name]}, not {field.type}"
                )
        return replace(self, fields=(*self.fields, *missing)) if missing else None

    def renamed(self, name: str) -> CollectionSpec:
        """The same spec under another name."""
        return replace(self, name=name)


def _vector_to_dict(vector: VectorField) -> dict[str, Any]:
    values = {
        "name": vector.name,
        "dim": vector.dim,
        "metric": vector.metric.value,
        "index": indexes.to_dict(vector.index),
    }
    four, added = vector.embedder.to_dicts() if vector.embedder else (None, None)
    # "embedder_added" where there is something alone: other specs keep their bytes
    return values | {"embedder": four} | ({"embedder_added": added} if added else {})


def _vector(values: Mapping[str, Any]) -> VectorField:
    index, embedder = indexes.from_dict(values["index"]), values.get("embedder")
    if embedder:
        embedder = EmbedderIdentity.from_dicts(embedder, values.get("embedder_added"))
    return VectorField(values["name"], values["dim"], values["metric"], index, embedder or None)


def _metric(metric: Metric | str) -> Metric:
    try:
        return Metric(metric)
    except ValueError:
        raise SchemaError(f"metric {shown(metric)}: one of {', '.join(Metric)}") from None


def _check_names(spec: CollectionSpec) -> None:
    seen: dict[str, str] = {"id": "id"}
    reserved = {each.name for each in spec.fields if each.name in names.RESERVED and each.type == "string"}
    vector_names = {each.name for each in spec.vectors}
    for name in spec.column_names[1:]:
        if name not in reserved and (not names.FIELD.fullmatch(name) or name.lower().startswith("_vb")):
            raise SchemaError(f"field name {name!r}: a letter, then letters, digits and _")
        if name == "vector" and name not in vector_names:
            raise SchemaError("field name 'vector' is kept for vectors")
        if name.lower() in seen:
            raise SchemaError(
                f"field name {name!r} clashes with {seen[name.lower()]!r} (case does not count)"
            )
        seen[name.lower()] = name
