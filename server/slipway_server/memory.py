"""Python's garbage collector, kept away from what stays for good."""

import gc

# Allocations of containers between two collections. CPython's 700 makes a JSON body of 150 000 numbers pay for dozens of
# collections; what requests leave behind in cycles is little, and a collection of it takes a few milliseconds at most.
_THRESHOLDS = (100_000, 20, 20)


def settle() -> None:
    """
    Take all that is alive out of the collector's sight, after one last look at it; from then on, collect rarely.

    TensorFlow and a model's graph are some million objects that stay; walking over them again and again would cost
    requests up to 100 ms each time. To be called when versions were loaded or freed: what was frozen before is looked
    at once more, so that the graph of a freed version goes.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


def is_settled() -> bool:
    """Say whether `settle` has been called."""
    return gc.get_freeze_count() > 0
