"""What this process knows of rows that are stored and missing in the HNSW graph.

Weaviate keeps a row in three places, and each has a log of its own::

    objects          written and synced before the write is acknowledged
    inverted index   with the objects, but a kill -9 in the middle of a batch may leave it behind
    HNSW graph       its log is written a moment after the acknowledgement

So a server that is killed while somebody writes may come back with two kinds of rows that are stored and
that no vector search finds:

* *Doubtful rows*: rows of the request that was cut off. Sending such a row again does not help, since the
  server leaves its indexes alone where the vector is the one that it has. It has to be written twice: with
  one bit of its vector changed, then as it is. The process whose request failed remembers these rows. A
  process that did not create the collection looks for those of others before its first write to a tenant.
* *Acknowledged rows* of the last moments, and rows that hung on them in the graph. Nobody can tell which,
  so each row is searched for by its own vector, which is what ``repair`` does.

The invariant, a tenant at a time::

    a row:      trusted  --- its request failed, or the server refused it -->  doubtful
                trusted  <-- acknowledged after it was written twice --------  doubtful

    the graph:  complete in term T  --- the term is not T any more ---------->  suspect
                complete in term T  --- a leftover of another writer was met ->  suspect
                complete in term T  <-- repair() has looked for every row -----  suspect

A *write* trusts the graph for the rows it sends unless they are doubtful. A *search* trusts the graph in any
case. ``wait_ready`` trusts it where it is complete in the present *term*: the number that the server's raft
consensus raises whenever a single node, or the leader of a cluster, is started. A term other than the one
that this process has written in says that the server was restarted, perhaps by kill -9, since then.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from vecbridge.stores.weaviate.lock import SharedExclusiveLock

_SPARSE: Final = 100  # a graph that does not lead to one row in so many
_NO_TERM: Final = "?"  # the term of a tenant whose graph is suspect; no server says this


@dataclass(slots=True)
class Progress:
    """How far the search for rows that the graph has lost has come.

    Attributes:
        round: Which time it is that all rows are searched for.
        after: The last UUID of this round whose row was searched for.
        examined: Rows that were searched for, in all rounds.
        missed: Rows that no search found in this round; they are written again.
        written: UUIDs of the rows that were written again, in all rounds.
        hidden: Those of them that no search found even then, when they were last searched for.
    """

    round: int = 1
    after: str = ""
    examined: int = 0
    missed: int = 0
    written: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)

    @property
    def worth_another_round(self) -> bool:
        """Whether rows were written in this one, and the graph leads to nearly all that it is given."""
        return self.missed > 0 and len(self.hidden) <= self.examined / _SPARSE

    def begin_another(self) -> None:
        """Starts a round: all rows are searched for once more."""
        self.round, self.after, self.missed = self.round + 1, "", 0


class Mending:
    """The state of one collection, shared by all its handles in this process; see the module's docstring.

    Args:
        fresh: Whether this process created the collection, so that no other can have left rows behind.

    Attributes:
        lock: Held shared by a write, and exclusively by a repair, a page at a time.
        fresh: As given.
    """

    def __init__(self, *, fresh: bool = False) -> None:
        self.lock = SharedExclusiveLock()
        self.fresh = fresh
        self._mutex = threading.Lock()
        self._doubtful: defaultdict[str, set[str]] = defaultdict(set)  # UUIDs by tenant
        self._terms: dict[str, str] = {}  # by tenant, the raft term in which the graph is complete
        self._searched_for_leftovers: set[str] = set()  # tenants
        self._progress: defaultdict[str, Progress] = defaultdict(Progress)

    def knows_term(self, tenant: str) -> bool:
        """Whether a term was recorded for a tenant."""
        return tenant in self._terms

    def record_term(self, tenant: str, term: str) -> None:
        """Records the server's raft term at the first write, so that a later restart is detected."""
        with self._mutex:
            self._terms.setdefault(tenant, term)

    def mark_complete(self, tenant: str, term: str) -> None:
        """Records that the graph has every row in this raft term."""
        with self._mutex:
            self._terms[tenant] = term

    def mark_suspect(self, tenant: str) -> None:
        """Records that an interrupted write, whoever's, may have left rows out of the graph."""
        self.mark_complete(tenant, _NO_TERM)

    def is_suspect(self, tenant: str, term: str) -> bool:
        """Whether rows may be missing in the graph of a server in this term."""
        return self._terms.get(tenant, term) != term

    def mark_doubtful(self, tenant: str, uuids: Iterable[str]) -> None:
        """Records rows of a request that may have been cut off."""
        with self._mutex:
            self._doubtful[tenant].update(uuids)

    def mark_acknowledged(self, tenant: str, uuids: Iterable[str]) -> None:
        """Records that the server has stored and indexed these rows."""
        with self._mutex:
            self._doubtful[tenant].difference_update(uuids)

    def doubtful(self, tenant: str, uuids: Sequence[str]) -> set[str]:
        """Which of some rows are doubtful."""
        if not self._doubtful.get(tenant):
            return set()
        with self._mutex:
            return self._doubtful[tenant].intersection(uuids)

    def needs_search_for_leftovers(self, tenant: str) -> bool:
        """Whether rows that another process left behind have not been searched for yet."""
        return tenant not in self._searched_for_leftovers

    def searched_for_leftovers(self, tenant: str) -> None:
        """Records that they were searched for."""
        self._searched_for_leftovers.add(tenant)

    def progress(self, tenant: str) -> Progress:
        """The search for lost rows that goes on, or a new one."""
        return self._progress[tenant]

    def finished(self, tenant: str) -> None:
        """Forgets a search that has come to its end."""
        del self._progress[tenant]
