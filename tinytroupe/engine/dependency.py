"""Out of order: everyone goes on as soon as nobody can interfere any more, and the results are those of the barrier."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.engine.scheduler import within
from tinytroupe.engine.turn import Turn, TurnOutcome


class Stage(Protocol):
    """What the scheduler asks of a world that can do without barriers."""

    async def take(self, turn: Turn) -> TurnOutcome:
        """Let the person of a turn decide.

        Raises where the run is to end with this step: nobody begins a turn of it, or of a later one, any more, and
        those under way are cancelled.
        """
        ...

    def publish(self, turn: Turn, outcome: TurnOutcome) -> BaseException | None:
        """Put what was decided before those whom it reaches, to take effect when they settle the step.

        Returns an error that ends the run with this step, too.
        """
        ...

    async def settle(self, turn: Turn) -> BaseException | None:
        """Let everything published for a person in a step take effect on that person, in agent order.

        Returns an error that ends the run after this step.
        """
        ...

    async def complete(self, step: int) -> None:
        """Take note that everyone has settled a step; called once a step, in order."""
        ...


class DependencyScheduler:
    """Lets everyone live at their own pace.

    A person settles step t, and begins t + 1, as soon as all who can address that person have decided what they do in
    step t. Nobody who could still say something is passed by, so what a person perceives before a turn, and in which
    order, is what a barrier after every step would give; nothing is ever taken back.

    Parameters
    ----------
    steps_ahead
        How many steps the first may be ahead of the last; 0 is a barrier. It bounds what is kept of unfinished steps:
        at most ``people · (steps_ahead + 1)`` outcomes.
    """

    name = "dependency"

    def __init__(self, steps_ahead: int) -> None:
        if steps_ahead < 0:
            raise ValueError(f"steps_ahead must be at least 0, got {steps_ahead!r}")
        self.steps_ahead = steps_ahead

    async def run(
        self,
        people: Sequence[TinyPerson],
        steps: range,
        addresses: Sequence[Collection[int]],
        stage: Stage,
        *,
        timeout_s: float | None,
        slots: int,
    ) -> None:
        """Run steps, as far as no error ends them.

        Parameters
        ----------
        people
            Who lives there, in agent order.
        steps
            Numbers of the steps.
        addresses
            For each of `people`, the positions of those whom this person can address.
        stage
            The world.
        timeout_s
            Seconds for a turn, from when it could have begun.
        slots
            Turns under way at once, at most.

        Raises
        ------
        BaseException
            What the stage returned as the end of the run: of several, the one of the earliest step, and of those the
            one of the first in agent order. Every step before it is complete.
        """
        await _Lives(people, steps, addresses, stage, timeout_s, slots, self.steps_ahead).run()


class _Room:
    """So many places; of those who wait for one, whoever is furthest behind comes first.

    Others wait for those behind, but never for those ahead, so this is what shortens the run.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def place(self, step: int, index: int) -> AsyncIterator[None]:
        """Hold a place inside the block."""
        if self._free:
            self._free -= 1
        else:
            future = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (step, index, future))
            try:
                await future
            except asyncio.CancelledError:
                if future.done() and not future.cancelled():  # given and cancelled in the same instant
                    self._give_back()
                raise
        try:
            yield
        finally:
            self._give_back()

    def _give_back(self) -> None:
        while self._waiting:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)
                return
        self._free += 1


class _Ended(Exception):
    """The run has ended; why is known."""


class _Lives:
    """A task for everyone, and what they wait for: that all who can address them have published a step."""

    def __init__(
        self,
        people: Sequence[TinyPerson],
        steps: range,
        addresses: Sequence[Collection[int]],
        stage: Stage,
        timeout_s: float | None,
        slots: int,
        steps_ahead: int,
    ) -> None:
        self._people, self._steps, self._stage, self._timeout_s = people, steps, stage, timeout_s
        self._steps_ahead = steps_ahead
        # Everyone is among those who have to publish before they settle.
        self._reaches = [sorted({index, *others}) for index, others in enumerate(addresses)]
        self._needed = [0] * len(people)
        for reached in self._reaches:
            for index in reached:
                self._needed[index] += 1
        self._room = _Room(slots) if slots < len(people) else None
        self._published: list[dict[int, int]] = [{} for _ in people]
        self._last = [""] * len(people)
        self._settled: dict[int, int] = {}
        self._waiting: dict[int, tuple[int, asyncio.Future[None]]] = {}
        self._deciding: dict[int, tuple[int, asyncio.Task[object]]] = {}
        self._until = steps.stop
        self._completed = steps.start
        self._completing = asyncio.Lock()
        self._failures: list[tuple[tuple[int, bool, int], BaseException]] = []

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._live(index)) for index in range(len(self._people))]
        try:
            last = await self._last_of(tasks)
        finally:
            unfinished = [task for task in tasks if not task.done()]
            for task in unfinished:
                task.cancel()
            if unfinished:
                await asyncio.wait(unfinished)
        last.result()
        if self._failures:
            raise min(self._failures, key=lambda failure: failure[0])[1]

    async def _last_of(self, tasks: Sequence[asyncio.Task[None]]) -> asyncio.Task[None]:
        """Wait for all, or for the first that fails or is cancelled; return who was waited for last.

        Unlike `asyncio.gather` this cancels nothing: whoever is cancelled twice can't finish anything.
        """
        last: asyncio.Future[asyncio.Task[None]] = asyncio.get_running_loop().create_future()
        living = set(tasks)

        def ended(task: asyncio.Task[None]) -> None:
            living.discard(task)
            if (task.cancelled() or task.exception() is not None or not living) and not last.done():
                last.set_result(task)

        for task in tasks:
            task.add_done_callback(ended)
        return await last

    async def _live(self, index: int) -> None:
        person, waited_for = self._people[index], ""
        for step in self._steps:
            while step > self._completed + self._steps_ahead and step < self._until:
                await self._wait(index, step)
            if step >= self._until:
                return
            turn = Turn(person, index, step, waited_for)
            outcome = await self._take(turn)
            if outcome is None:
                return
            self._publish(turn, outcome)
            while step < self._until and self._published[index][step] < self._needed[index]:
                await self._wait(index, step)
            if step >= self._until:
                return
            waited_for = self._last[index]
            del self._published[index][step]
            self._fail(turn, await self._stage.settle(turn), settled=True)
            await self._settle(step)

    async def _take(self, turn: Turn) -> TurnOutcome | None:
        """Take a turn; None where the run has ended with its step, or one before, meanwhile."""
        place = None if self._room is None else self._room.place(turn.step, turn.index)
        try:
            outcome = await within(turn, self._decide, self._timeout_s, place)
        except _Ended:
            return None
        return outcome if turn.step < self._until else None

    async def _decide(self, turn: Turn) -> TurnOutcome:
        task = asyncio.current_task()
        if turn.step >= self._until or task is None:
            raise _Ended
        self._deciding[turn.index] = (turn.step, task)
        try:
            return await self._stage.take(turn)
        except Exception as error:
            # Now, and not when the person's task hears of it: meanwhile others would get a free place, and begin.
            self._fail(turn, error, settled=False)
            raise _Ended from error
        finally:
            del self._deciding[turn.index]

    async def _wait(self, index: int, step: int) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting[index] = (step, future)
        try:
            await future
        finally:
            self._waiting.pop(index, None)

    def _wake(self, index: int) -> None:
        _, future = self._waiting[index]
        if not future.done():
            future.set_result(None)

    def _publish(self, turn: Turn, outcome: TurnOutcome) -> None:
        self._fail(turn, self._stage.publish(turn, outcome), settled=False)
        for index in self._reaches[turn.index]:
            published = self._published[index]
            published[turn.step] = published.get(turn.step, 0) + 1
            if published[turn.step] == self._needed[index]:
                self._last[index] = turn.person.name
                if index in self._waiting and self._waiting[index][0] == turn.step:
                    self._wake(index)

    def _fail(self, turn: Turn, error: BaseException | None, *, settled: bool) -> None:
        if error is None:
            return
        self._failures.append(((turn.step, settled, turn.index), error))
        self._until = min(self._until, turn.step + settled)
        for waiting, (step, _) in self._waiting.items():
            if step >= self._until:
                self._wake(waiting)
        for deciding, (step, task) in self._deciding.items():
            if step >= self._until and deciding != turn.index:
                task.cancel()

    async def _settle(self, step: int) -> None:
        self._settled[step] = self._settled.get(step, 0) + 1
        if self._settled[step] < len(self._people):
            return
        del self._settled[step]
        async with self._completing:  # first come, first served: in the order of the steps
            await self._stage.complete(step)
        self._completed = step + 1
        for waiting, (awaited, _) in self._waiting.items():
            if awaited <= self._completed + self._steps_ahead:
                self._wake(waiting)
