"""Weaviate: a server, a cluster, Weaviate Cloud.

``store`` holds the store, ``collection`` what is done with one collection, ``table`` what its handles share,
``mending`` how rows of an interrupted write are found again. ``layout`` says which property holds what,
``schema`` how a class is described to the server, ``foreign`` so for classes made elsewhere; ``expressions``
and ``index_params`` translate, ``wire`` turns Arrow into protobuf and back, ``connection`` sends it.

The schema goes over REST; records, searches and counts go through the generated gRPC stubs of
weaviate-client, not through its collections: those retry by themselves for a minute, take a record as a
dict with a list of floats, and call the package index when they connect.
"""
