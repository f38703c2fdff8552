"""The one place that knows of GPUs. Written with care and NOT YET RUN ON ONE: no test machine has had any.

The GPU trains IVF indexes and searches them; FAISS has no HNSW there, so graphs stay on the CPU, and so do
exact searches, which read the memory-mapped truth. The CPU keeps each index that is on the GPU, and answers
where the GPU cannot: that costs little, because its file is mapped into memory.
"""

from __future__ import annotations

import logging
import os
import threading
from functools import cache
from typing import Any, Final

import faiss

from vecbridge.errors import ConfigError, install_hint
from vecbridge.query import FloatArray

_LOG = logging.getLogger(__name__)
#: Rows that a search may return and lists that it may visit on a GPU: getMaxKSelection() of FAISS.
_MOST: Final = 2048
# FAISS: "GPU indices are not thread-safe", nor are several that share their resources. Reentrant, because an
# index may be collected while its thread holds the lock.
_LOCK: Final = threading.RLock()


def require(device: str) -> None:
    """Refuses a GPU that is not there.

    Raises:
        ConfigError: ``device="cuda"`` without a GPU, or without FAISS's GPU build.
    """
    if device != "cuda":
        return
    if not hasattr(faiss, "StandardGpuResources"):
        raise ConfigError(f"device='cuda': this is faiss-cpu; {install_hint('faiss-gpu')}, or device='cpu'")
    if faiss.get_num_gpus() == 0:
        raise ConfigError("device='cuda': FAISS sees no GPU here; device='cpu' searches without one")


def trained(index: Any, sample: FloatArray, device: str) -> Any:
    """The index after training, on the GPU where that is asked for and FAISS can."""
    if device == "cuda":
        try:
            # resources of its own: searches go on meanwhile
            worker = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
            worker.train(sample)
            return faiss.index_gpu_to_cpu(worker)
        except RuntimeError as exc:  # too large for it, or a kind of index that it does not have
            _LOG.warning("the GPU cannot train this index (%s): the CPU does", exc)
    index.train(sample)
    return index


def for_search(index: Any, device: str) -> GpuLists | None:
    """A copy of an IVF index on the GPU, where that is asked for and FAISS can."""
    if device != "cuda":
        return None
    try:
        with _LOCK:
            return GpuLists(index, faiss.index_cpu_to_gpu(_resources(), 0, index))
    except RuntimeError as exc:
        _LOG.warning("the GPU cannot hold this index (%s): the CPU searches it", exc)
        return None


class GpuLists:
    """An IVF index on the CPU and the GPU. Thread-safe: searches on the GPU wait for each other.

    Args:
        cpu: The index.
        gpu: Its copy.
    """

    def __init__(self, cpu: Any, gpu: Any) -> None:
        self._cpu = cpu
        self._gpu = gpu
        self._process = os.getpid()

    def search_c(self, count: int, queries: Any, k: int, distances: Any, rows: Any, params: Any) -> None:
        """Searches as ``faiss.IndexIVF.search_c`` does, on the GPU if it can."""
        if k <= _MOST and params.nprobe <= _MOST and self._is_usable:
            try:
                with _LOCK:
                    self._gpu.search_c(count, queries, k, distances, rows, params)
                return
            except RuntimeError as exc:  # no memory for so many queries, as a rule
                _LOG.warning("the GPU did not answer (%s): the CPU does", exc)
        self._cpu.search_c(count, queries, k, distances, rows, params)

    @property
    def _is_usable(self) -> bool:
        """Not in a forked child: CUDA does not survive a fork."""
        return os.getpid() == self._process

    def __del__(self) -> None:
        if self._is_usable:
            with _LOCK:
                self._gpu = None
        else:
            self._gpu.this.disown()  # the memory is the parent's


@cache
def _resources() -> Any:
    """What all indexes share: each such object takes up to 1.5 GB of the GPU's memory."""
    return faiss.StandardGpuResources()
