"""The examples at the end of each command's help; a test parses every line of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

# Command: what an example does, and its line; 80 columns show none of them broken.
EXAMPLES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "index": (
        (
            "A folder of pictures, with everything below it",
            "vecbridge index ~/Pictures -s faiss:./vectors#photos",
        ),
        (
            "Again, after pictures have come, changed and gone",
            "vecbridge index ~/Pictures -s faiss:./vectors#photos --sync",
        ),
        ("Some files only", "vecbridge index '~/Pictures/2024-*.jpg' -s faiss:./vectors#photos"),
        (
            "A long run that can be continued",
            "vecbridge index ~/Pictures -s faiss:./big#photos --journal index.journal",
        ),
        (
            "Another model, and an index for many pictures",
            "vecbridge index ~/Pictures -s faiss:./clip#photos --index hnsw \\\n"
            "    --model openai/clip-vit-base-patch32",
        ),
    ),
    "load": (
        (
            "Vectors and fields of a Parquet file",
            "vecbridge load vectors.parquet -s faiss:./vectors#articles",
        ),
        (
            "Columns that are called otherwise",
            "vecbridge load part-*.jsonl -s faiss:./vectors#articles --id key --vector emb",
        ),
        (
            "What a run could not write, after it was corrected",
            "vecbridge load vecbridge-dead-letters.jsonl -s faiss:./vectors#articles",
        ),
    ),
    "search": (
        (
            "The five nearest pictures to a text",
            'vecbridge search "a red car" -s faiss:./vectors#photos -k 5',
        ),
        (
            "Similar pictures, as a page to look at",
            "vecbridge search --image car.jpg -s faiss:./vectors#photos --html found.html",
        ),
        (
            "Among some records only",
            'vecbridge search "a red car" -s faiss:./vectors#photos --where "year >= 2020"',
        ),
        (
            "A picture, but in snow",
            'vecbridge search "in snow" -i car.jpg --weight 0.4 -s faiss:./vectors#photos',
        ),
        (
            "For another program",
            'vecbridge search "a red car" -s faiss:./vectors#photos --json > found.json',
        ),
    ),
    "classify": (
        ("Pictures, by labels of your own", "vecbridge classify ~/Pictures --labels dog,cat,bird"),
        (
            "The three best of many labels, as a file",
            "vecbridge classify ~/Pictures --labels-file labels.txt -k 3 --csv labels.csv",
        ),
        (
            "A collection, with labels in Spanish",
            "vecbridge classify -s faiss:./vectors#photos -l perro,gato --language es",
        ),
    ),
    "fair": (
        (
            "The first hits as mixed as all that was found",
            'vecbridge fair "a pet" -s faiss:./vectors#photos --by country',
        ),
        (
            "Half of them of each group, from 500 candidates",
            'vecbridge fair "a pet" -s faiss:./vectors#photos --by country \\\n'
            "    --target ES=1/2 --target PT=1/2 --candidates 500",
        ),
    ),
    "moderate": (
        ("Verdicts of a folder of pictures", "vecbridge moderate ~/uploads --policy policy.yaml"),
        (
            "With calibrated scores and a log, as a check",
            "vecbridge moderate ~/uploads --policy policy.yaml \\\n"
            "    --calibration calibration.json --audit verdicts.log --fail-on block",
        ),
    ),
    "calibrate": (
        (
            "What the scores of a model are worth",
            "vecbridge calibrate labels.jsonl --policy policy.yaml --html figures.html",
        ),
        (
            "Calibrated scores",
            "vecbridge calibrate labels.jsonl -p policy.yaml --output calibration.json",
        ),
    ),
    "plan": (
        (
            "What a move to Milvus would change",
            "vecbridge plan faiss:./vectors#photos milvus://localhost:19530",
        ),
        (
            "The same, with every record checked, as a file",
            "vecbridge plan faiss:./vectors#photos milvus://localhost:19530 --scan \\\n"
            "    --output move.plan",
        ),
    ),
    "migrate": (
        ("A copy as Parquet files", "vecbridge migrate faiss:./vectors#photos snapshot:./backup"),
        (
            "A move to Milvus, as it was planned",
            "vecbridge migrate faiss:./vectors#photos milvus://localhost:19530 \\\n    --plan move.plan",
        ),
    ),
    "sync": (
        (
            "A copy that vecbridge migrate --state made",
            "vecbridge sync faiss:./vectors#photos snapshot:./backup --state move.state",
        ),
        ("What would be done", "vecbridge sync faiss:./vectors#photos snapshot:./backup --dry-run"),
    ),
    "list": (
        ("Collections in a folder", "vecbridge list faiss:./vectors"),
        ("Collections of a server, for another program", "vecbridge list milvus://localhost:19530 --json"),
    ),
    "info": (("A collection", "vecbridge info faiss:./vectors#photos"),),
    "count": (
        ("All records", "vecbridge count faiss:./vectors#photos"),
        ("Some of them", 'vecbridge count faiss:./vectors#photos --where "year is null"'),
    ),
    "delete": (
        ("Two records", "vecbridge delete faiss:./vectors#photos beach.jpg more/car.jpg"),
        (
            "All that match, without a question",
            'vecbridge delete faiss:./vectors#photos --where "year < 2000" --yes',
        ),
    ),
    "drop": (("A collection, without a question", "vecbridge drop faiss:./vectors#photos --yes"),),
    "doctor": (
        ("The installation and the model", "vecbridge doctor"),
        ("Two stores, too", "vecbridge doctor faiss:./vectors milvus://localhost:19530"),
    ),
    "verify": (
        ("Every value, and what searches find", "vecbridge verify faiss:./vectors#photos snapshot:./backup"),
        (
            "Numbers of records only",
            "vecbridge verify faiss:./vectors#photos snapshot:./backup --level count",
        ),
        (
            "With a report to look at",
            "vecbridge verify faiss:./vectors#photos snapshot:./backup --html proof.html",
        ),
    ),
    "embed": (
        ("Graphs that run without PyTorch", "vecbridge embed export openai/clip-vit-base-patch32 ./clip"),
        (
            "The same beside a checkpoint's weights, and in int8",
            "vecbridge embed export ./clip ./clip --int8",
        ),
        ("What is fastest here, for pictures like yours", "vecbridge embed bench ./clip --images ~/Pictures"),
    ),
    "demo": (("Everything into a folder", "vecbridge demo --dir demo"),),
}
_AS_IT_STANDS: Final = "\b"  # typer does not fill the paragraph that begins so
# Of the program: one of each kind.
FIRST: Final = (EXAMPLES["index"][0], EXAMPLES["search"][0], EXAMPLES["migrate"][0])


def epilog(examples: Iterable[tuple[str, str]]) -> str:
    """The examples as the end of a help text."""
    return "\n\n".join(f"{_AS_IT_STANDS}\n# {what}\n{line}" for what, line in examples)
