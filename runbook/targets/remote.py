"""Somebody's running server, reached by the environment's configuration: we look, and write under our own key prefix only."""

from collections.abc import Mapping

from cachelib import Config, connect
from runbook.targets.base import Engine, ask_engine


class Remote:
    """The Redis that `REDIS_HOST` and its kin, or `REDIS_URL`, name; it can't be stopped, killed or paused by us.

    Raises:
        ConfigError: the environment's configuration is invalid.
    """

    name = "remote"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.config = Config.from_env(environ)

    def __repr__(self) -> str:
        return f"<Remote {self.config.endpoint}>"

    @property
    def engine(self) -> Engine:
        """Ask the server what it is."""
        with connect(self.config) as client:
            return ask_engine(client, "running")

    def log(self) -> str:
        """Return nothing: its log is not ours to see."""
        return ""

    def close(self) -> None:
        """Do nothing: what we did not start we don't stop."""
