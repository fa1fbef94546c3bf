"""The wall time of jobs that wait for each other on a machine with a number of places: list scheduling, simulated.

Whenever places are free, the first job in the list that waits for nothing and fits takes them (Graham 1966). A queue
that is shared with other users makes it longer.
"""

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ScheduledJob:
    """A job that takes places for some hours, after other jobs."""

    name: str
    after: tuple[str, ...]
    """Names of the jobs that it waits for; names that are not in the list count as done."""
    hours: float
    places_taken: int
    """Number of places; a job that takes none starts at once."""


def wall_hours(jobs: Sequence[ScheduledJob], places: int) -> float:
    """From the start of the first to the end of the last. A job that wants more than there is gets all places."""
    names = {job.name for job in jobs}
    missing = {number: len(names.intersection(job.after)) for number, job in enumerate(jobs)}
    followers = defaultdict(list)
    for number, job in enumerate(jobs):
        for name in names.intersection(job.after):
            followers[name].append(number)
    places_wanted = [min(job.places_taken, places) for job in jobs]
    ready: dict[int, list[int]] = defaultdict(list)  # places wanted -> heap of places in the list
    for number, count in missing.items():
        if not count:
            heapq.heappush(ready[places_wanted[number]], number)
    now, free, running = 0.0, places, list[tuple[float, int]]()
    while True:
        while fitting := [heap[0] for want, heap in ready.items() if heap and want <= free]:
            number = min(fitting)
            heapq.heappop(ready[places_wanted[number]])
            free -= places_wanted[number]
            heapq.heappush(running, (now + jobs[number].hours, number))
        if not running:
            return now
        now, number = heapq.heappop(running)
        free += places_wanted[number]
        for follower in followers[jobs[number].name]:
            missing[follower] -= 1
            if not missing[follower]:
                heapq.heappush(ready[places_wanted[follower]], follower)
