"""Owns loops in machine code: blocks of instructions, natural loops, and their shortest paths. Knows no processor.

Whoever makes a ``Function`` tells what its instructions do: `assembly.py` for processors, `machine_code.py` for GPUs.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .instructions import ARITHMETIC, CHOICES


@dataclass(frozen=True)
class Jump:
    """Where an instruction may go: to labels, of this function or not, and to the next instruction if it ``falls``."""

    targets: tuple[str, ...]
    falls: bool


@dataclass(frozen=True)
class Function:
    """The instructions of one function, and where its labels stand among them."""

    name: str
    instructions: tuple[str, ...]
    labels: Mapping[str, int]
    jump_of: Callable[[str], Jump | None]
    trip_count: Callable[
        [Loop], int | None
    ]  # how often a loop runs, where that is a number in its instructions

    def followers(self, at: int) -> tuple[int, ...]:
        """Positions that may come after an instruction."""
        jump = self.jump_of(self.instructions[at])
        following = (at + 1,) if (jump is None or jump.falls) and at + 1 < len(self.instructions) else ()
        inside = (self.labels.get(label, len(self.instructions)) for label in (jump.targets if jump else ()))
        return (*following, *(target for target in inside if target < len(self.instructions)))

    @functools.cached_property
    def loops(self) -> tuple[Loop, ...]:
        """The natural loops, the inner ones before those that contain them."""
        bodies: dict[int, set[int]] = {}
        for at in self._reachable:
            for head in self.followers(at):
                if head in self._dominators[at]:
                    bodies.setdefault(head, {head}).update(self._reaching(at, head))
        found = (Loop(self, head, frozenset(body)) for head, body in bodies.items())
        return tuple(sorted(found, key=lambda loop: len(loop.body)))

    @functools.cached_property
    def _reachable(self) -> tuple[int, ...]:
        """Positions in reverse postorder, from the entry."""
        order: list[int] = []
        seen, stack = {0}, [(0, iter(self.followers(0)))]
        while stack:
            at, rest = stack[-1]
            following = next((f for f in rest if f not in seen), None)
            if following is None:
                order.append(at)
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, iter(self.followers(following))))
        return tuple(reversed(order))

    @functools.cached_property
    def _before(self) -> dict[int, tuple[int, ...]]:
        """The positions that lead to each position."""
        coming_from: dict[int, list[int]] = {}
        for at in self._reachable:
            for following in self.followers(at):
                coming_from.setdefault(following, []).append(at)
        return {at: tuple(before) for at, before in coming_from.items()}

    @functools.cached_property
    def _dominators(self) -> dict[int, frozenset[int]]:
        """For each position, the loop heads and other meeting points that every path to it visits, and itself."""
        order, coming_from = self._reachable, self._before
        is_meeting = {at for at, before in coming_from.items() if len(before) > 1} | {0}
        known: dict[int, frozenset[int]] = {0: frozenset({0})}
        changed = True
        while changed:
            changed = False
            for at in order[1:]:
                before = [known[b] for b in coming_from[at] if b in known]
                common = functools.reduce(frozenset.intersection, before)
                found = common | {at} if at in is_meeting else common
                if known.get(at) != found:
                    known[at], changed = found, True
        return known

    def _reaching(self, latch: int, head: int) -> set[int]:
        """What reaches a latch without going through the head."""
        found, stack = {latch, head}, [latch]
        while stack:
            at = stack.pop()
            for before in self._before.get(at, ()) if at != head else ():
                if before not in found:
                    found.add(before)
                    stack.append(before)
        return found


@dataclass(frozen=True, eq=False)
class Loop:
    """A natural loop: its head dominates the body, whose paths lead back to it."""

    function: Function
    head: int
    body: frozenset[int]

    @functools.cached_property
    def nested(self) -> tuple[Loop, ...]:
        """The loops directly inside."""
        inside = [loop for loop in self.function.loops if loop.body < self.body]
        return tuple(a for a in inside if not any(a.body < b.body for b in inside))

    @functools.cached_property
    def path(self) -> Mapping[int, int] | None:
        """How often one iteration executes each instruction, on the shortest way from the head back to it.

        None if there is no way but through a loop that runs nobody knows how often.
        """
        inner = {loop.head: _Step.through(loop) for loop in self.nested}
        way = _shortest_way(self, inner)
        if way is None:
            return None
        steps = ((at, inner.get(at)) for at in way)
        return {at: times for k, step in steps for at, times in (step.executed if step else {k: 1}).items()}

    def listing(self, path: Mapping[int, int]) -> tuple[str, ...]:
        """What a path executes, with the labels among it; what runs several times says how often."""
        function = self.function
        labels = {position: label for label, position in function.labels.items()}
        lines = []
        for at in sorted(path):
            lines += [f"{labels[at]}:"] if at in labels else []
            repeated = f"    [{path[at]} times]" if path[at] > 1 else ""
            lines.append(f"    {function.instructions[at]}{repeated}")
        return tuple(lines)


@dataclass(frozen=True)
class _Step:
    """A node of the way through a loop: an instruction, or a whole loop inside."""

    length: int
    executed: Mapping[int, int]
    followers: Sequence[int]

    @classmethod
    def through(cls, loop: Loop) -> _Step | None:
        trips, path = loop.function.trip_count(loop), loop.path
        if trips is None or path is None:
            return None
        executed = {at: trips * times for at, times in path.items()}
        leaving = {f for at in loop.body for f in loop.function.followers(at) if f not in loop.body}
        return cls(sum(executed.values()), executed, sorted(leaving))


def _shortest_way(loop: Loop, inner: Mapping[int, _Step | None]) -> tuple[int, ...] | None:
    """From the head to the head again, as positions of instructions, and of the heads of loops inside."""
    queue = [(0, loop.head, loop.head)]  # length so far, position, the position before
    before: dict[int, int] = {}
    while queue:
        length, at, previous = heapq.heappop(queue)
        if at == loop.head and before:
            return _way_back(previous, loop.head, before)
        if at in before:
            continue
        before[at] = previous
        step = inner[at] if at in inner else _Step(1, {at: 1}, loop.function.followers(at))
        if step is None:
            continue
        for following in step.followers:
            if following in loop.body and (following not in before or following == loop.head):
                heapq.heappush(queue, (length + step.length, following, at))
    return None


def _way_back(end: int, start: int, before: Mapping[int, int]) -> tuple[int, ...]:
    way = [end]
    while way[-1] != start:
        way.append(before[way[-1]])
    return tuple(reversed(way))


class Work(NamedTuple):
    """What an iteration of a loop does, in instructions, on its shortest path."""

    arithmetic: int
    choices: int  # comparisons: insertions into sorted lists hold many of them
    length: int


def find_working_loop(
    functions: Iterable[Function], kind_of: Callable[[str], str], rank: Callable[[Work], Any]
) -> tuple[Loop, Mapping[int, int]] | None:
    """The loop of the highest rank, and the path of its iteration; None where none ranks higher than no work does."""
    best, highest = None, rank(Work(0, 0, 1))
    for loop in (loop for function in functions for loop in function.loops):
        path = loop.path or {}
        kinds = [(kind_of(loop.function.instructions[at]), times) for at, times in path.items()]
        arithmetic, choices = (
            sum(n for kind, n in kinds if kind in group) for group in (ARITHMETIC, CHOICES)
        )
        found = rank(Work(arithmetic, choices, sum(path.values()) or 1))
        if found > highest:
            best, highest = (loop, path), found
    return best
