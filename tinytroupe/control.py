"""Record a simulation, and continue where it stopped: `begin`, `checkpoint`, `end`, `reset`.

Between `begin` and `end` every model call is kept in a journal. A second run of the same program with the same path
sends no call that is answered there, and goes on live after the point where the first stopped, or was killed::

    control.begin("market.journal")
    world.run(20)
    control.end()
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from tinytroupe.llm.journal import Journal, set_process_journal

__all__ = [
    "Simulation",
    "begin",
    "cache_hits",
    "cache_misses",
    "checkpoint",
    "current_simulation",
    "end",
    "reset",
]

SIMULATIONS_KEPT = 100
"""Simulations whose figures can be asked for by name; beyond it, the one begun longest ago is forgotten."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """A simulation that is, or was, being recorded.

    Attributes
    ----------
    id
        Its name.
    journal
        Where its model calls are kept; closed after `end`.
    """

    id: str
    journal: Journal

    @property
    def cache_hits(self) -> int:
        """Model calls answered from the journal."""
        return self.journal.hits

    @property
    def cache_misses(self) -> int:
        """Model calls that went to the model."""
        return self.journal.misses


_lock = threading.Lock()
_simulations: dict[str, Simulation] = {}
_current: Simulation | None = None


def begin(
    cache_path: str | os.PathLike[str] | None = None, id: str = "default", auto_checkpoint: bool = False
) -> Simulation:
    """Start recording, and answer from what is recorded already.

    Parameters
    ----------
    cache_path
        File to keep the model calls in, made when missing. None keeps them in memory until `end`: nothing is written to
        the working directory unasked.
    id
        Name of the simulation, to ask for its figures by later.
    auto_checkpoint
        Wait for the disk at every model call, so that not even a power failure loses one. A killed process loses
        nothing either way.

    Raises
    ------
    RuntimeError
        A simulation has begun and not ended.
    JournalError
        `cache_path` can't be opened or is no journal; the file is left as it is.
    """
    global _current
    with _lock:
        if _current is not None:
            raise RuntimeError(
                f"simulation {_current.id!r} has begun and not ended: call control.end() first, or control.reset()"
            )
        journal = Journal(":memory:" if cache_path is None else cache_path, power_safe=auto_checkpoint)
        _simulations.pop(id, None)
        _current = _simulations[id] = Simulation(id, journal)
        if len(_simulations) > SIMULATIONS_KEPT:
            del _simulations[next(iter(_simulations))]
        set_process_journal(journal)
        return _current


def checkpoint(id: str | None = None) -> None:
    """Wait until everything recorded so far is on disk.

    Raises
    ------
    RuntimeError
        No simulation has begun, or another than `id`.
    """
    _begun("checkpoint", id).journal.flush()


def end(id: str | None = None) -> None:
    """Stop recording and close the file.

    Raises
    ------
    RuntimeError
        No simulation has begun, or another than `id`.
    """
    global _current
    with _lock:
        simulation = _begun("end", id)
        _current = None
        set_process_journal(None)
    simulation.journal.close()


def reset() -> None:
    """Forget all simulations, after ending the one that runs. What is in files stays there."""
    global _current
    with _lock:
        simulation, _current = _current, None
        _simulations.clear()
        set_process_journal(None)
    if simulation is not None:
        simulation.journal.close()


def current_simulation() -> Simulation | None:
    """Return the simulation that is being recorded, or None."""
    return _current


def cache_hits(id: str | None = None) -> int:
    """Return how many model calls were answered from what was recorded.

    Parameters
    ----------
    id
        Name of the simulation, also after its end; None: the one that runs, else ``default``.

    Raises
    ------
    KeyError
        No simulation of that name has begun.
    """
    return _named(id).cache_hits


def cache_misses(id: str | None = None) -> int:
    """Return how many model calls were not answered from what was recorded; see `cache_hits`."""
    return _named(id).cache_misses


def _begun(verb: str, id: str | None) -> Simulation:
    if _current is None:
        raise RuntimeError(f"control.{verb}() needs a simulation that has begun: call control.begin() first")
    if id is not None and id != _current.id:
        raise RuntimeError(f"control.{verb}({id!r}): the simulation that has begun is {_current.id!r}")
    return _current


def _named(id: str | None) -> Simulation:
    simulation = _simulations.get("default") if id is None else _simulations.get(id)
    if id is None and _current is not None:
        simulation = _current
    if simulation is None:
        raise KeyError(
            f"no simulation {'has begun' if id is None else f'{id!r} has begun'}; call control.begin() first"
        )
    return simulation
