"""Pinecone: serverless indexes, over REST or gRPC.

``driver`` is the database, ``collection`` one namespace of one index. ``control`` asks the control plane;
``planes`` says what the data plane is asked, ``rest`` and ``rpc`` carry it, ``errors`` maps what goes wrong.
``layout`` says which metadata key holds what, ``integers`` how all of int64 fits into numbers of 53 bits,
``tags`` where the spec is kept, ``foreign`` reads indexes made elsewhere; ``expressions`` translates filters,
``wire`` turns Arrow into metadata and back, ``limits`` has the service's numbers.

The client's REST ``Index`` retries by itself and cannot be told not to, so that REST goes through the
client's own transport, which can; gRPC goes through the channel of its ``GrpcIndex``, which can too.
"""
