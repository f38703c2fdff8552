"""Index parameters: a closed union in the field's own names.

References: HNSW (Malkov & Yashunin 2016, arXiv:1603.09320), IVF and product quantisation
(Jegou et al. 2011, doi:10.1109/TPAMI.2010.57), ScaNN (Guo et al. 2020, arXiv:1908.10396), DiskANN
(Subramanya et al. 2019, "DiskANN: Fast Accurate Billion-point Nearest Neighbor Search on a Single Node").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, get_args

from vecbridge.errors import SchemaError
from vecbridge.texts import shown

Quantizer = Literal["pq", "sq", "bq", "rq"]


class _Described:
    """Shows an index as people write it."""

    __slots__ = ()

    def __str__(self) -> str:
        return describe(self)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Auto(_Described):
    """The backend's own choice, and the default; the stored spec says Auto, too.

    Example:
        >>> import vecbridge as vb
        >>> vb.CollectionSpec.single("photos", dim=512).vector.index
        Auto()
    """

    kind: ClassVar[str] = "auto"
    quantized: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Flat(_Described):
    """Exact search over every vector.

    Example:
        >>> import vecbridge as vb
        >>> vb.CollectionSpec.single("photos", dim=512, index=vb.Flat()).vector.index
        Flat()
    """

    kind: ClassVar[str] = "flat"
    quantized: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class IVFFlat(_Described):
    """Inverted lists of whole vectors.

    Attributes:
        nlist: Number of lists (k-means centroids).

    Raises:
        SchemaError: A number out of range.

    Example:
        >>> import vecbridge as vb
        >>> vb.CollectionSpec.single("photos", dim=512, index=vb.IVFFlat(nlist=256)).vector.index
        IVFFlat(nlist=256)
    """

    kind: ClassVar[str] = "ivf_flat"
    quantized: ClassVar[bool] = False
    nlist: int = 1024

    def __post_init__(self) -> None:
        _between("nlist", self.nlist, 1, 65_536)


@dataclass(frozen=True, slots=True)
class IVFSQ8(_Described):
    """Inverted lists of vectors scalar-quantised to 8 bits a component.

    Attributes:
        nlist: Number of lists (k-means centroids).

    Raises:
        SchemaError: A number out of range.

    Example:
        >>> import vecbridge as vb
        >>> vb.CollectionSpec.single("photos", dim=512, index=vb.IVFSQ8(nlist=256)).vector.index.quantized
        True
    """

    kind: ClassVar[str] = "ivf_sq8"
    quantized: ClassVar[bool] = True
    nlist: int = 1024

    def __post_init__(self) -> None:
        _between("nlist", self.nlist, 1, 65_536)


@dataclass(frozen=True, slots=True)
class IVFPQ(_Described):
    """Inverted lists of product-quantised vectors.

    Attributes:
        nlist: Number of lists (k-means centroids).
        m: Number of sub-quantisers; divides the dimension.
        nbits: Bits a sub-quantiser code.

    Raises:
        SchemaError: A number out of range.

    Example:
        >>> import vecbridge as vb
        >>> index = vb.IVFPQ(nlist=256, m=64)  # 512 dimensions become 64 codes of one byte
        >>> vb.CollectionSpec.single("photos", dim=512, index=index).vector.index.nbits
        8
    """

    kind: ClassVar[str] = "ivf_pq"
    quantized: ClassVar[bool] = True
    nlist: int = 1024
    m: int = 32
    nbits: int = 8

    def __post_init__(self) -> None:
        _between("nlist", self.nlist, 1, 65_536)
        _between("m", self.m, 1, 65_536)
        _between("nbits", self.nbits, 1, 16)


@dataclass(frozen=True, slots=True)
class HNSW(_Described):
    """A navigable small-world graph.

    Attributes:
        m: Links a node on the upper layers (twice that on the lowest).
        ef_construction: Breadth of the search that finds a new node's neighbours.
        quantizer: Compression of the vectors that the graph compares, where a backend has it.
        ef: Stored default breadth of a search, for backends that take none with a query.

    Raises:
        SchemaError: A number out of range, or no such quantizer.

    Example:
        >>> import vecbridge as vb
        >>> index = vb.HNSW(m=32, ef_construction=400)
        >>> vb.CollectionSpec.single("photos", dim=512, index=index).vector.index.m
        32
    """

    kind: ClassVar[str] = "hnsw"
    m: int = 16
    ef_construction: int = 200
    quantizer: Quantizer | None = None
    ef: int | None = None

    def __post_init__(self) -> None:
        _between("m", self.m, 2, 2048)
        _between("ef_construction", self.ef_construction, 1, 1_000_000)
        if self.ef is not None:
            _between("ef", self.ef, 1, 1_000_000)
        if self.quantizer is not None and self.quantizer not in get_args(Quantizer):
            raise SchemaError(
                f"quantizer {shown(self.quantizer)}: one of {', '.join(get_args(Quantizer))} or None"
            )

    @property
    def quantized(self) -> bool:
        """Whether the graph compares compressed vectors."""
        return self.quantizer is not None


@dataclass(frozen=True, slots=True)
class SCANN(_Described):
    """Inverted lists of vectors in codes of 4 bits, the best of which are compared whole.

    Attributes:
        nlist: Number of lists (k-means centroids).
        with_raw_data: Whether whole vectors are kept for the last comparison.

    Raises:
        SchemaError: A number out of range.

    Example:
        >>> import vecbridge as vb
        >>> vb.CollectionSpec.single("photos", dim=512, index=vb.SCANN(nlist=256)).vector.index
        SCANN(nlist=256, with_raw_data=True)
    """

    kind: ClassVar[str] = "scann"
    quantized: ClassVar[bool] = True
    nlist: int = 1024
    with_raw_data: bool = True

    def __post_init__(self) -> None:
        _between("nlist", self.nlist, 1, 65_536)
        if not isinstance(self.with_raw_data, bool):
            raise SchemaError(f"with_raw_data={shown(self.with_raw_data)}: True or False")


@dataclass(frozen=True, slots=True)
class DISKANN(_Described):
    """A graph (Vamana) on the disk of the server, with compressed vectors in memory.

    Example:
        >>> import vecbridge as vb
        >>> vb.CollectionSpec.single("photos", dim=512, index=vb.DISKANN()).vector.index.quantized
        True
    """

    kind: ClassVar[str] = "diskann"
    quantized: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Other(_Described):
    """A foreign index that vecbridge can describe and search, but not create.

    Attributes:
        name: What the backend calls it ("GPU_CAGRA").
        params: Its parameters as the backend gives them (JSON values).

    Example:
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("photos", dim=512, index=vb.Other("GPU_CAGRA"))
        >>> capabilities = vb.Capabilities(backend="mine", indexes=frozenset({"auto", "flat"}))
        >>> [gap.detail for gap in capabilities.check(spec)]
        ['a foreign index (GPU_CAGRA) cannot be created']
    """

    kind: ClassVar[str] = "other"
    quantized: ClassVar[bool] = True
    name: str
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)


IndexParams = Auto | Flat | IVFFlat | IVFSQ8 | IVFPQ | HNSW | SCANN | DISKANN | Other
_KINDS: dict[str, type[IndexParams]] = {
    cls.kind: cls for cls in (Auto, Flat, IVFFlat, IVFSQ8, IVFPQ, HNSW, SCANN, DISKANN, Other)
}


def to_dict(index: IndexParams) -> dict[str, Any]:
    """The parameters as JSON values; :func:`from_dict` is the inverse."""
    values: dict[str, Any] = {"kind": index.kind}
    for each in fields(index):
        value = getattr(index, each.name)
        values[each.name] = dict(value) if isinstance(value, Mapping) else value
    return values


def describe(index: IndexParams) -> str:
    """An index with its parameters, as people write it, and as ``--index`` takes it.

    Example:
        >>> describe(HNSW(m=8))
        'hnsw(m=8, ef_construction=200)'
    """
    if isinstance(index, Other):
        return f"a foreign index ({index.name})"
    values = {name: value for name, value in to_dict(index).items() if name != "kind" and value is not None}
    listed = ", ".join(f"{name}={value}" for name, value in values.items())
    return f"{index.kind}({listed})" if listed else index.kind


def from_dict(values: Mapping[str, Any]) -> IndexParams:
    """Reads what :func:`to_dict` wrote.

    Raises:
        SchemaError: An unknown kind or parameter.
    """
    if not isinstance(values, Mapping):
        raise SchemaError(f"an index is a JSON object, not {shown(values)}")
    params = dict(values)
    kind = params.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise SchemaError(f"index kind {shown(kind)}: one of {', '.join(_KINDS)}")
    try:
        return _KINDS[kind](**params)
    except TypeError as exc:
        raise SchemaError(f"index {kind}: {exc}") from exc


def _between(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SchemaError(f"{name}={shown(value)}: a whole number from {low} to {high}")
