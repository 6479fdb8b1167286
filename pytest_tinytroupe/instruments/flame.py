"""Every allocation of the call, by memray, which comes with the extra of that name: for a flame graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tinytroupe.instruments import Reading

if TYPE_CHECKING:
    import memray


class Flame:
    """Traces the call into a file.

    Parameters
    ----------
    trace
        The file, which must not exist yet.
    """

    def __init__(self, trace: str) -> None:
        self._trace = trace
        self._tracker: memray.Tracker | None = None

    def start(self) -> None:
        """Begin to trace, Python's small objects included: they are what a heap mostly consists of."""
        import memray

        self._tracker = memray.Tracker(self._trace, trace_python_allocators=True)
        self._tracker.__enter__()

    def stop(self) -> None:
        """End."""
        if self._tracker is not None:
            self._tracker.__exit__(None, None, None)

    def read(self) -> Reading:
        """Return nothing: what there is to see is in the file."""
        return Reading()
