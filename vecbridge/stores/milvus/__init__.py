"""Milvus: embedded (milvus-lite), standalone, cluster.

``store`` holds the stores, ``collection`` what is done with one collection, ``table`` what its handles share.
``layout`` says which Milvus field holds what, ``foreign`` so for collections made elsewhere; ``expressions``
and ``index_params`` translate, ``wire`` turns Arrow into protobuf and back, ``connection`` sends it,
``readiness`` knows what an index covers, ``dialects`` what each kind of server can do.

The adapter speaks to the server through the generated gRPC stubs of pymilvus, not through its MilvusClient:
that one retries by itself for minutes, takes rows as Python dicts, and lets raw gRPC errors through.
"""
