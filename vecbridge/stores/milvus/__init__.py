"""Milvus: embedded (milvus-lite), standalone, cluster.

``driver`` and ``lite`` are the drivers, ``collection`` that of one namespace, ``table`` what the namespaces
of a collection share, ``readiness`` what is known of its indexes. ``layout`` says which Milvus field holds
what, ``typed`` which columns have one of their own, ``foreign`` the same for collections made elsewhere, and
``stored`` what the properties of a collection hold; ``expressions`` and ``index_params`` translate, ``wire``
turns Arrow into protobuf and back, with the scalars as ``scalars`` has them, and ``paging`` says how much is
asked for at a time. ``searching`` decides how a search is asked, ``asking`` sends its requests.
``connection`` sends them all, to the milvus-lite of this process as ``embedded`` does;
``options`` are those of the URL, and ``dialects`` says what each kind of server can do.

The drivers use the generated gRPC stubs of pymilvus, not its MilvusClient: that one retries by itself for
minutes, takes rows as Python dicts, and lets raw gRPC errors through.
"""
