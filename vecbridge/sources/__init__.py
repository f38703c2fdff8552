"""Where records come from: folders of pictures and texts, Parquet, JSON lines and NumPy files.

Sources stream: they hold a batch, never a file. What they cannot read they pass on as a
:class:`~vecbridge.sources.deadletters.DeadLetter`, one for each picture, line or row.
"""
