"""Times of several functions, taken in turn, so that whatever else the machine does hits all of them alike."""

import random
import time


def interleaved(functions, seconds=4.0, least=5, most=50):
    """Seconds that each function takes, by its name: a sorted list per function.

    Two calls of each are not counted; the first one may compile.

    Args:
        functions: Functions without arguments, by name.
        seconds: About how long to measure all of them together.
        least: Rounds at least.
        most: Rounds at most.
    """
    for function in functions.values():
        function()
    once = sum(_seconds_of(function) for function in functions.values())
    rounds = int(min(most, max(least, seconds / once)))
    times = {name: [] for name in functions}
    names, generator = list(functions), random.Random(0)
    for _ in range(rounds):
        # In another order each time: what ran just before decides what is left in the cache.
        generator.shuffle(names)
        for name in names:
            times[name].append(_seconds_of(functions[name]))
    return {name: sorted(values) for name, values in times.items()}


def ratio(theirs, ours):
    """How many times longer the peer takes, of sorted seconds, with what the quartiles say."""
    spread = [theirs[len(theirs) * q // 4] / ours[len(ours) * q // 4] for q in (1, 3)]
    return f"{theirs[0] / ours[0]:.2g} ({min(spread):.2g} to {max(spread):.2g})"


def _seconds_of(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def table(rows, header):
    """Rows of text as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
