r"""Embeds pictures on a Ray cluster and writes them into a collection; the same job for 300 or 100 million.

A manifest in Parquet says which pictures there are (columns ``id`` and ``path``); a folder is made into one.
Each actor holds the model and decodes pictures in threads, each write task has a connection of its own, and
with a checkpoint the same command goes on where it was cut off. ``docs/scale.md`` says what sizes to choose::

    python ray_embed.py Pictures milvus://localhost:19530
    python ray_embed.py s3://bucket/manifest milvus://milvus:19530 --address auto \
        --model openai/clip-vit-base-patch32 --actors 8 --gpus 1 --cpus 8 --checkpoint s3://bucket/done
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data.checkpoint import CheckpointConfig

import vecbridge as vb
from vecbridge.integrations.ray import VecbridgeDatasink, embed

ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
ROWS_A_FILE = 100_000


def manifest_of(folder: Path) -> str:
    """Lists a folder into Parquet files beside it, which Ray reads in parallel."""
    target = folder.parent / f"{folder.name}-manifest"
    target.mkdir(exist_ok=True)
    pictures = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    for start in range(0, len(pictures), ROWS_A_FILE):
        part = pictures[start : start + ROWS_A_FILE]
        ids = [path.relative_to(folder).as_posix() for path in part]
        table = pa.table({"id": ids, "path": [str(path.resolve()) for path in part]})
        pq.write_table(table, target / f"{start:012}.parquet")
    return str(target)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pictures", help="a folder of pictures, or a manifest in Parquet")
    parser.add_argument("url", help="the store, such as milvus://localhost:19530")
    parser.add_argument("--collection", default="ray_pictures")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--address", help="of the Ray cluster; by default one is started here")
    parser.add_argument("--actors", type=int, default=1, help="processes with the model")
    parser.add_argument("--gpus", type=float, default=0, help="of each actor")
    parser.add_argument("--cpus", type=float, default=1, help="of each actor, which decode pictures")
    parser.add_argument("--writers", type=int, default=2, help="write tasks at a time")
    parser.add_argument("--checkpoint", help="a directory that all nodes share")
    parser.add_argument("--dead-letters", help="a directory that all nodes share")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.address:
        ray.init(address=given.address)
    else:
        # Actors keep their CPUs to the end, and that of a checkpoint is one of them. On a machine of few
        # cores none would be left for the tasks that read and write, and the job would wait for ever.
        needed = math.ceil(given.actors * given.cpus) + given.writers + 2
        ray.init(num_cpus=max(needed, os.cpu_count() or 1))
    context = ray.data.DataContext.get_current()
    if given.checkpoint:
        # What stands there is left out by the read, before it is decoded or embedded.
        context.checkpoint_config = CheckpointConfig(
            "id", given.checkpoint, delete_checkpoint_on_success=False
        )
    with vb.embedder(given.model) as model:
        spec = vb.CollectionSpec.single(
            given.collection, dim=model.dim, fields={"path": "string"}, embedder=model.identity
        )
    folder = Path(given.pictures)
    holds_manifest = not folder.is_dir() or any(folder.glob("*.parquet"))
    pictures = ray.data.read_parquet(given.pictures if holds_manifest else manifest_of(folder))
    vectors = embed(
        pictures, given.model, images="path", keep=True, actors=given.actors, num_gpus=given.gpus,
        num_cpus=given.cpus,
    )  # fmt: skip
    sink = VecbridgeDatasink(given.url, spec, dead_letters=given.dead_letters)
    vectors.write_datasink(sink, concurrency=given.writers)


if __name__ == "__main__":
    main()
