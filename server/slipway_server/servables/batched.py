"""Give each version the batching parameters that hold for it, before anything is run."""

import logging
from collections.abc import Callable
from pathlib import Path

from slipway_server.config_files import (
    MODEL_BATCHING_FILE,
    BatchingPolicy,
    doubts_about,
    read_model_batching_policy,
)
from slipway_server.servables.loader import Loader, Servable

logger = logging.getLogger(__name__)

PolicyOf = Callable[[Path], BatchingPolicy | None]
"""Version directory -> how its requests are put together; None: each runs by itself."""


def own_policy(pool: BatchingPolicy) -> PolicyOf:
    """
    Make what reads a version's own parameters, where it brings some, and lets it go without batching where not.

    Args:
        pool: Gives the threads, which all models share.
    """
    return lambda directory: read_model_batching_policy(directory, pool)


class BatchedLoader:
    """A loader whose versions say how their requests are put together."""

    def __init__(self, loader: Loader, directory: Path, policy_of: PolicyOf, *, tells_doubts: bool) -> None:
        """
        Wrap *loader*.

        Args:
            loader: Loads the version in *directory*.
            directory: May hold MODEL_BATCHING_FILE.
            policy_of: Raises InvalidArgument for one that cannot be used.
            tells_doubts: Whether to log what is valid and makes no sense: the parameters are the version's own.
        """
        self._loader = loader
        self._directory = directory
        self._policy_of = policy_of
        self._tells_doubts = tells_doubts

    def load(self) -> Servable:
        """
        Load.

        Raises:
            WireError: Of the loader; or the version's batching parameters cannot be used.
        """
        policy = self._policy_of(self._directory)
        for doubt in doubts_about(policy) if policy and self._tells_doubts else ():
            logger.warning("%s: %s", self._directory / MODEL_BATCHING_FILE, doubt)
        servable = self._loader.load()
        servable.batching_policy = policy
        return servable
