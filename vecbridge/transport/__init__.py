"""What the drivers of remote databases share: a gRPC channel, an HTTP client, their errors, parallel calls.

``channel`` needs grpcio, ``http`` needs httpx, ``errors`` needs neither; a driver imports what it needs, and
``import vecbridge`` none of them.
"""
