"""What this process knows of rows that are stored and missing in the HNSW graph.

Weaviate keeps a row in three places::

    objects          written and synced before the write is acknowledged
    inverted index   written with the objects; a kill -9 in the middle of a batch may leave it behind
    HNSW graph       its log is synced a moment after the acknowledgement

So a server that is killed while somebody writes may come back with two kinds of rows that are stored and
that no vector search finds:

* *Doubtful rows*: rows of the request that was cut off. Sending such a row again does not help, since the
  server leaves its indexes alone where the vector is the one that it has. It has to be written twice: with
  one bit of its vector changed, then as it is. The process whose request failed remembers these rows. One
  that did not create the collection looks for those of others before it writes to a namespace.
* *Acknowledged rows* of the last moments, and rows that hung on them in the graph. Nobody can tell which
  they are: each row is searched for by its own vector, which is what ``repair`` does.

The invariant, for each namespace::

    a row      trusted  ---- its request failed, or the server refused it ---->  doubtful
               trusted  <--- acknowledged, after it was written twice ---------  doubtful

    the graph  complete in term T  ---- the server's term is not T any more -->  suspect
               complete in term T  ---- rows that another left were met ------>  suspect
               complete in term T  <--- repair() has searched for every row ---  suspect

A *write* trusts the graph for the rows that it sends, unless they are doubtful. A *search* always trusts it.
``build`` trusts it where it is complete in the present *term*: the number that the server's raft consensus
raises whenever a single node, or the leader of a cluster, is started. Another term than that of this
process's first write says that the server was restarted since, perhaps after a kill -9.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from vecbridge.stores.weaviate.lock import SharedExclusiveLock

_SPARSE: Final = 100  # a graph that does not lead to one row in so many
_NO_TERM: Final = "?"  # of a graph that is suspect; no server says this


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


class Graph:
    """What is known of the graph of one namespace.

    Args:
        fresh: Whether this process created the collection, so that no other can have left rows behind.

    Attributes:
        fresh: As given.
        lock: Held shared by a write, and exclusively by a repair, a page at a time.
        leftovers_sought: Whether rows that the inverted index lacks were searched for.
        term: The server's raft term in which the graph is complete; None before the first write.
        progress: Of the search for lost rows.
    """

    def __init__(self, *, fresh: bool) -> None:
        self.fresh = fresh
        self.lock = SharedExclusiveLock()
        self.leftovers_sought = fresh
        self.term: str | None = None
        self.progress = Progress()
        self._doubtful: set[str] = set()
        self._mutex = threading.Lock()

    def record_term(self, term: str) -> None:
        """Records the server's raft term, so that a later restart is detected."""
        with self._mutex:
            if self.term is None:
                self.term = term

    def mark_suspect(self) -> None:
        """Records that an interrupted write, whoever's, may have left rows out of the graph."""
        with self._mutex:
            self.term = _NO_TERM

    def is_suspect(self, term: str) -> bool:
        """Whether rows may be missing in the graph of a server in this term."""
        return self.term not in (None, term)

    def mark_doubtful(self, uuids: Iterable[str]) -> None:
        """Records rows of a request that may have been cut off."""
        with self._mutex:
            self._doubtful.update(uuids)

    def mark_acknowledged(self, uuids: Iterable[str]) -> None:
        """Records rows that the server has stored and indexed."""
        with self._mutex:
            self._doubtful.difference_update(uuids)

    def doubtful(self, uuids: Iterable[str]) -> set[str]:
        """Which of some rows are doubtful."""
        with self._mutex:
            return self._doubtful.intersection(uuids) if self._doubtful else set()


class Mending:
    """What is known of the graphs of one collection, shared by its handles in this process.

    Args:
        fresh: Whether this process created the collection.
    """

    def __init__(self, *, fresh: bool = False) -> None:
        self._fresh = fresh
        self._graphs: dict[str, Graph] = {}

    def graph(self, tenant: str) -> Graph:
        """That of one namespace."""
        return self._graphs.setdefault(tenant, Graph(fresh=self._fresh))
