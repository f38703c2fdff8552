"""Makes the target of a copy, or finds that it may be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeAlias

from vecbridge import filters
from vecbridge.agreement import require_agreement
from vecbridge.bulk.targets import remove_empty
from vecbridge.errors import (
    CollectionExistsError,
    ConfigError,
    SchemaError,
    UnsupportedError,
    VecbridgeError,
)
from vecbridge.migration.conversion import Converter
from vecbridge.migration.journal import CopyJournal
from vecbridge.migration.ledger import require_room
from vecbridge.migration.plans import Plan
from vecbridge.migration.sides import Side
from vecbridge.migration.statefile import State, StateHeader, StateWriter, partial_path

#: What the target may be: empty or not there, or whatever agrees with the plan.
Into: TypeAlias = Literal["empty", "existing"]


def require_into(into: str) -> None:
    """Refuses a misspelt ``into``.

    Raises:
        ConfigError: Neither "empty" nor "existing".
    """
    if into not in ("empty", "existing"):
        raise ConfigError(f'into={into!r}: "empty" or "existing"')


def require_apart(source: Side, target: Side) -> None:
    """Refuses to copy a collection, or a namespace of one, onto itself.

    Raises:
        ConfigError: The target is the source, or a part of it.
    """
    if (str(source.store.url), source.name) != (str(target.store.url), target.name):
        return
    if source.namespace is None or target.namespace is None or source.namespace == target.namespace:
        raise ConfigError(f"{target.url} is the source itself: name another collection or namespace")


def require_same_source(plan: Plan, source: Side, journal: CopyJournal) -> None:
    """Refuses a source that was dropped and made anew since the plan was made.

    Raises:
        NotFoundError: It is not there.
        JournalError: It was made anew, and a journal is to go on.
        SchemaError: It was made anew, otherwise.
    """
    if source.collection(source.namespace or "").identity == plan.source_identity:
        return
    if journal.continues:
        raise journal.error(f"{plan.source} was made anew since it was begun")
    raise SchemaError(f"{plan.source} was made anew since the plan was made: make a new plan")


def require_still_there(plan: Plan, target: Side, journal: CopyJournal) -> None:
    """Refuses to call a copy done whose target is gone.

    Raises:
        JournalError: It was dropped, or made anew.
    """
    if journal.target_identity is not None:
        _require_same(plan, target, journal)


def open_target(plan: Plan, target: Side, journal: CopyJournal, into: Into) -> bool:
    """Creates the target, or lets one pass that the copy may go on writing to.

    Returns:
        Whether it was created.

    Raises:
        CollectionExistsError: It differs from the plan, or has rows that this copy did not write.
        JournalError: The target of the journal was dropped, or made anew.
    """
    if journal.target_identity is not None:
        _require_same(plan, target, journal)
        return False
    made = not target.exists()
    if made:
        target.store.create(plan.spec).close()
        target.forget()
    else:
        require_agreement(target.collection(target.namespace or "").stored_spec, plan.spec)
        if into == "empty":
            _require_empty(plan, target)
    journal.note_target(target.collection(target.namespace or "").identity)
    return made


@contextmanager
def taken_back(target: Side, journal: CopyJournal, state: Path | None) -> Iterator[None]:
    """Removes a target that was made for a copy that fails before anything of it is settled.

    The journal and the begun state file go with it, so that a corrected command finds all as it was. A
    target that is another one by now, or has rows, stays.

    Args:
        target: Which this copy has made.
        journal: Which it has begun.
        state: The state file that it is to make.
    """
    try:
        yield
    except BaseException as exc:
        if not journal.copied.rows and journal.target_identity is not None:
            try:
                if remove_empty(target.store, target.name, journal.target_identity):
                    target.forget()
                    journal.discard()
                    if state is not None:
                        partial_path(state).unlink(missing_ok=True)
            except (VecbridgeError, OSError) as left:
                exc.add_note(f"the empty {target.url} that was made for it could not be removed: {left}")
        raise


def require_usable(plan: Plan, target: Side, journal: CopyJournal, into: Into) -> None:
    """The checks of :func:`open_target` alone, so that a refused copy leaves nothing behind.

    Raises:
        CollectionExistsError: The target differs from the plan, or has rows that this copy did not write.
        UnsupportedError: The target's store cannot build it.
        JournalError: The target of the journal was dropped, or made anew.
    """
    if journal.target_identity is not None:
        _require_same(plan, target, journal)
    elif target.exists():
        require_agreement(target.collection(target.namespace or "").stored_spec, plan.spec)
        if into == "empty":
            _require_empty(plan, target)
    else:
        for gap in target.store.check(plan.spec):
            if gap.blocking:
                backend = target.store.capabilities.backend
                raise UnsupportedError(backend, f"{gap.kind} of {gap.subject!r}", gap.detail)


def require_readable(plan: Plan, source: Side) -> None:
    """Refuses a source whose columns or filters are not what the plan wants of it; reads no row.

    Raises:
        SchemaError: The source has changed since the plan was made, or the filter does not fit it.
        UnsupportedError: The source does not have an operator of the filter.
    """
    opened = source.collection(source.namespace or "")
    include = Converter(plan, opened.stored_spec, opened.extra).include
    condition = None if plan.filter is None else filters.from_dict(plan.filter)
    opened.scan(include=include, filter=condition)


def _require_same(plan: Plan, target: Side, journal: CopyJournal) -> None:
    if not target.exists():
        raise journal.error(f"{plan.target} was dropped since it was begun")
    opened = target.collection(target.namespace or "")
    if opened.identity != journal.target_identity:
        raise journal.error(f"{plan.target} was made anew since it was begun")
    require_agreement(opened.stored_spec, plan.spec, other_fields=True)


def _require_empty(plan: Plan, target: Side) -> None:
    """Refuses a target with rows in a namespace that the copy writes to."""
    present = set(target.namespaces())
    written = {plan.into} if plan.into is not None else present
    for namespace in sorted(present & written):
        if rows := target.collection(namespace).count():
            where = f" in namespace {namespace!r}" if namespace else ""
            raise CollectionExistsError(
                f'{plan.target} has {rows} rows{where}: name another collection, or say into="existing" to '
                "replace rows of the same id and keep the others"
            )


def require_state(state: Path, plan: Plan, journal: CopyJournal) -> None:
    """Refuses a state file that another run has made, and a disk without room for one.

    Raises:
        ConfigError: The file is there already, and this copy did not make it.
        StorageFullError: There is too little room.
    """
    if state.exists() and not journal.continues:
        raise ConfigError(f"{state} exists: name another state file; vecbridge.sync uses this one")
    if (partial := partial_path(state)).exists() and not journal.continues:
        raise ConfigError(f"{partial} is of a copy that was cut off: go on with its journal, or remove it")
    with suppress(FileNotFoundError):
        require_room(state.parent, 2 * plan.size.rows)


def open_state(state: Path, plan: Plan, journal: CopyJournal) -> StateWriter | None:
    """The writer of the state file; None where an earlier run has finished the file and nothing else.

    Raises:
        JournalError: What was begun belongs to another copy.
        StorageFullError: The disk is full.
    """
    header = StateHeader(plan, plan.source_identity, journal.target_identity or "")
    if state.exists() and not partial_path(state).exists():
        State.read(state).header.require_same(header, state)
        return None
    writer = StateWriter(state, header)
    try:
        writer.resume(journal.position)
    except BaseException:
        writer.close()
        raise
    return writer
