"""``index --sync``: what is compared before anything is embedded, and done once everything is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecbridge.cli import common, output
from vecbridge.errors import ConfigError

if TYPE_CHECKING:
    from vecbridge.bulk.syncing import SyncPlan
    from vecbridge.cli.writing import IngestResult
    from vecbridge.collection import Collection
    from vecbridge.sources.deadletters import DeadLetter
    from vecbridge.sources.images import ImageSource
    from vecbridge.store import Store
    from vecbridge.urls import StoreURL

PANEL: Final = "Synchronising"
SyncOption = Annotated[
    bool,
    typer.Option(
        "--sync",
        help="Embed only what is new or changed, and remove the records of files that are gone.",
        rich_help_panel=PANEL,
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="With --sync: change nothing, and show what would be done.", rich_help_panel=PANEL
    ),
]
ChecksumOption = Annotated[
    bool,
    typer.Option(
        "--checksum",
        help="With --sync: read every file, also where size and time are as they were.",
        rich_help_panel=PANEL,
    ),
]
YesOption = Annotated[
    bool,
    typer.Option(
        "--yes",
        "-y",
        help="With --sync: do not ask before more than a fifth of the records, or all of a folder's, are "
        "removed.",
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True, slots=True)
class Finished:
    """What was done to rows that were not embedded.

    Attributes:
        refreshed: Rows that were rewritten with their vectors.
        removed: Rows that were removed.
        failed: Rows that could not be rewritten.
    """

    refreshed: int = 0
    removed: int = 0
    failed: int = 0


def require_options(*, sync: bool, dry_run: bool, checksum: bool, yes: bool, journal: Path | None) -> None:
    """Refuses options that do not go together.

    Raises:
        ConfigError: Names them.
    """
    for option, given in (("--dry-run", dry_run), ("--checksum", checksum), ("--yes", yes)):
        if given and not sync:
            raise ConfigError(f"{option} is for --sync")
    if sync and journal is not None:
        raise ConfigError("--journal: after an interruption, --sync finds by itself what is left to do")


def compare(store: Store, url: StoreURL, source: ImageSource, *, checksum: bool, quiet: bool) -> SyncPlan:
    """Compares the files with the rows of the collection, which may not exist yet."""
    from vecbridge.bulk.syncing import TrackedRows, plan_sync
    from vecbridge.bulk.syncrows import read_rows, rows_of_ids

    with output.busy("Comparing the files with the collection", quiet=quiet):
        if url.collection not in store.collections():
            return plan_sync(source, TrackedRows(), source.roots, elsewhere=lambda ids: {})
        with store.open(url.collection, namespace=url.namespace or "") as collection:
            return plan_sync(
                source,
                read_rows(collection, source.roots),
                source.roots,
                elsewhere=lambda ids: rows_of_ids(collection, ids),
                checksum=checksum,
            )


def require_consent(plan: SyncPlan, *, yes: bool) -> None:
    """Asks before much is removed; nothing was changed so far.

    Raises:
        ConfigError: Nobody can be asked.
        VecbridgeError: The answer is not yes.
    """
    if doubts := plan.doubts():
        common.ask(f"{_sentence(doubts)}. Go on?", yes=yes, refused="nothing was changed")


def finish(
    collection: Collection | None,
    plan: SyncPlan,
    source: ImageSource,
    dead_letters: Path,
    *,
    all_written: bool = True,
) -> Finished:
    """Rewrites the rows of files that were touched, then removes those of files that are gone.

    Args:
        collection: Where; None if none was made.
        plan: What is to be done.
        source: Where the files are.
        dead_letters: Takes the rows that cannot be rewritten.
        all_written: Whether the store took every row. A file may have been renamed: without its new row, the
            old one stays.
    """
    from vecbridge.bulk.deadletters import DeadLetterFile
    from vecbridge.bulk.syncrows import remove, rewrite

    if collection is None or not (plan.touched or plan.gone):
        return Finished()
    letters: list[DeadLetter] = []
    refreshed = rewrite(collection, plan.touched, source, letters.append)
    if letters:
        with DeadLetterFile(dead_letters, continuing=True) as file:
            file.append(letters)
    removed = remove(collection, plan) if all_written else 0
    if plan.gone and not all_written:
        output.note("The store refused records, so that nothing was removed: run the command again.")
    collection.flush()
    return Finished(refreshed, removed, len(letters))


def without_model(
    store: Store, url: StoreURL, source: ImageSource, plan: SyncPlan, *, dry_run: bool, yes: bool,
    dead_letters: Path, as_json: bool,
) -> None:  # fmt: skip
    """A dry run, or a run that has nothing to embed."""
    done = None
    failed = 0
    about: dict[str, Any] = {"url": str(url), "skipped": source.skipped}
    if not dry_run:
        require_consent(plan, yes=yes)
        with store.open(url.collection, namespace=url.namespace or "") as collection:
            done = finish(collection, plan, source, dead_letters)
            status = collection.status()
        failed = done.failed
        about |= {"read": failed, "written": 0, "failed": failed, "duplicates": 0, "retried": 0}
        about |= {"dead_letters": str(dead_letters) if failed else None}
        about |= {"rows": status.rows, "index": status.index}
    if as_json:
        output.document(about | document(plan, done))
    else:
        output.show(output.pairs(lines(plan, done)))
    if failed:
        raise typer.Exit(1)


def counted(
    result: IngestResult, collection: Collection | None, done: Finished, dead_letters: Path
) -> IngestResult:
    """The result with what was done to rows that were not embedded."""
    if collection is None or not (done.removed or done.failed):
        return result
    failed = result.failed + done.failed
    letters = str(dead_letters) if failed else None
    return replace(
        result,
        read=result.read + done.failed,
        failed=failed,
        dead_letters=letters,
        rows=collection.status().rows,
    )


def document(plan: SyncPlan, done: Finished | None) -> dict[str, Any]:
    """The part of the JSON document; None of a dry run."""
    return {
        "sync": {
            "dry_run": done is None,
            "new": plan.new,
            "changed": plan.changed,
            "unchanged": plan.same,
            "refreshed": len(plan.touched) if done is None else done.refreshed,
            "removed": len(plan.gone) if done is None else done.removed,
            "kept": plan.kept,
            "unreadable": plan.unreadable,
            "asks": plan.doubts(),
        }
    }


def lines(plan: SyncPlan, done: Finished | None) -> list[tuple[str, str]]:
    """The lines of the summary; None is a dry run."""
    found = [] if done else [("dry run", "nothing was changed; this would be:")]
    found += [("new", f"{plan.new:,}"), ("changed", f"{plan.changed:,}"), ("unchanged", f"{plan.same:,}")]
    refreshed = len(plan.touched) if done is None else done.refreshed
    if refreshed:
        found.append(("refreshed", f"{refreshed:,} of the same content; not embedded again"))
    found.append(("removed", f"{len(plan.gone) if done is None else done.removed:,}"))
    if plan.kept:
        found.append(("kept", f"{plan.kept:,} of files that are there and were not read"))
    if done is None:
        if plan.unreadable:
            found.append(("unreadable", f"{plan.unreadable:,}"))
        found += [("asks first", doubt) for doubt in plan.doubts()]
    return found


def _sentence(doubts: list[str]) -> str:
    text = "; ".join(doubts)
    return text[0].upper() + text[1:]
