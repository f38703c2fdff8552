"""The snapshot store: a directory of Parquet files that other tools read, and a manifest.

    <root>/<collection>/manifest.json              spec, namespaces, files and their hashes
    <root>/<collection>/lock                       the lock of the one writer
    <root>/<collection>/<namespace>/part-*.parquet rows; ``__default__`` is the namespace ""
    <root>/<collection>/_pending/                  requests that are acknowledged and not merged yet

A write puts one file into ``_pending`` and is acknowledged when that is on the disk. Reads see the files of
the manifest and what is pending, of which the last wins. A merge writes new files, renames a new manifest
over the old one, and then removes the files that it does not name: each state is whole, whatever moment a
crash picks.
"""
