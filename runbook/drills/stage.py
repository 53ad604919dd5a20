"""Where loads are offered to be measured: keys filled, server and load on a core each, nothing else of ours at work."""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from cachelib import Config, connect, deadline
from runbook.load import engine
from runbook.load.client_load import ClientPlan
from runbook.load.echo import ControlServer, echo_server, stub_server
from runbook.load.offered import Offered, describe
from runbook.load.placement import Placement, current_core, placed
from runbook.load.plan import Control, Plan
from runbook.load.recording import Recording
from runbook.load.sockets import LoadError
from runbook.load.steal import cpu_seconds
from runbook.load.traffic import Traffic
from runbook.targets import Local, Published, Target
from runbook.targets.local import pid_on_this_host

WARM_UP_S = 0.3
_REACH_S = 1.0
# What the control takes off.
ON_ITS_HOST = "the noise of the server's host"
ON_OURS = "the noise of this host only; the network and the server's host are part of the number"


@dataclass(frozen=True, slots=True)
class Stage:
    """Offers loads to one server.

    Attributes:
        config: of the server.
        traffic: whose keys are filled.
        placement: which cores are used.
        server_pid: of a server whose process this host can see; None for another.
        control: where each open loop is sent a second time; None without.
    """

    config: Config
    traffic: Traffic
    placement: Placement
    server_pid: int | None = None
    control: Control | None = None

    def offer(self, *, duration_s: float, processes: int = 1, **more: Any) -> Offered:
        """Offer the traffic, spinning where the load has a core of its own.

        Args:
            duration_s: seconds of load that count.
            processes: how many send.
            more: fields of `Plan`.

        Raises:
            LoadError: it could not be offered.
            ValueError: the plan is impossible.
        """
        # More processes than cores share them, and those that share can't spin.
        alone = self.placement.apart and processes <= len(self.placement.loads)
        plan = self._plan(duration_s=duration_s, **({"spin": alone} | more))
        made = engine.offer(plan, processes=processes, cores=self.placement.loads)
        return Offered(describe(plan, self.placement.words) | ({"control": self._control_covers} if plan.control else {}), made)

    def server_cpu_s(self) -> float | None:
        """Return how many seconds of CPU time the server has used so far; None where this host can't see it."""
        return None if self.server_pid is None else cpu_seconds(self.server_pid)

    def offer_to(self, other: Config, traffic: Traffic, *, duration_s: float, **more: Any) -> Recording:
        """Offer another traffic to another server, in the same way."""
        plan = dataclasses.replace(self._plan(duration_s=duration_s, **more), config=other, traffic=traffic, control=None)
        return engine.offer(plan, cores=self.placement.loads)

    @contextlib.contextmanager
    def controlled(self) -> Iterator["Stage"]:
        """Run a control beside the server for the length of the block; each open loop is sent to it as well."""
        with echo_server(self._control_core) as echo:
            yield dataclasses.replace(self, control=Control(echo.config, echo.pid, self.server_pid))

    def through_client(self, *, rate_per_s: float, duration_s: float, size_bytes: int) -> Offered:
        """Offer GET, SET and PING through one caller of the client library, and the same to a server without a database.

        Args:
            rate_per_s: calls a second.
            duration_s: seconds of load that count.
            size_bytes: length of the values.

        Raises:
            LoadError: the server can't be reached or refuses.
        """
        with stub_server(self._control_core, size_bytes=size_bytes) as stub:
            plan = ClientPlan(self.config, f"{self.traffic.prefix}client:", size_bytes, rate_per_s, WARM_UP_S, duration_s, self.server_pid)
            made = engine.offer_through_client(plan, _control_of(plan, stub), cores=self.placement.loads)
        description = describe(self._plan(duration_s=duration_s, rate_per_s=rate_per_s, spin=False), self.placement.words)
        return Offered({**description, "client": "cachelib", "control": self._control_covers}, made)

    @property
    def _control_covers(self) -> str:
        return ON_ITS_HOST if self.server_pid is not None else ON_OURS

    @property
    def _control_core(self) -> int | None:
        if self.placement.server is None and self.server_pid is not None:
            return current_core(self.server_pid)
        return self.placement.server

    def _plan(self, **more: Any) -> Plan:
        control = self.control if more.get("rate_per_s") else None
        return Plan(self.config, self.traffic, **({"warm_up_s": WARM_UP_S, "spin": self.placement.apart, "control": control} | more))


@contextlib.contextmanager
def staged(target: Target, traffic: Traffic) -> Iterator[Stage]:
    """Fill the keys, pin a server of ours, wait until no other notebook is at work; afterwards delete the keys.

    Args:
        target: which server.
        traffic: whose keys it takes.

    Raises:
        LoadError: the keys could not be written; the message says why.
    """
    with connect(target.config) as client, placed(server_pid(target)) as placement:
        try:
            try:
                traffic.clear(client)  # who may not delete keys should not write any
                traffic.fill(client)
            except redis.RedisError as error:
                raise LoadError(f"the keys of the load could not be written and deleted: {error}") from error
            yield Stage(_reached(target), traffic, placement, server_pid(target) or pid_on_this_host(client, target.config))
        finally:
            with contextlib.suppress(redis.RedisError):  # of a server that is gone no key need be deleted
                traffic.clear(client)


def _reached(target: Target) -> Config:
    """Return how to reach a server without what hands its port on, if this host can; so do the clients in a container's own network."""
    direct = target.direct if isinstance(target, Published) else None
    if direct:
        with contextlib.suppress(redis.RedisError), connect(direct, observers=[]) as client, deadline(_REACH_S):
            client.ping()
            return direct
    return target.config


def server_pid(target: Target) -> int | None:
    """Return the process of a server of ours; None for another's, and for one that this host can't see."""
    return target.pid if isinstance(target, Local) else None


def _control_of(plan: ClientPlan, stub: ControlServer) -> ClientPlan:
    """Do the same to a server without a database, by the same client; its waits for a CPU count where the server's are known as well."""
    config = dataclasses.replace(plan.config, host=stub.config.host, port=stub.config.port, tls=False, username=None, password=None, db=0)
    return dataclasses.replace(plan, config=config, pid=plan.pid and stub.pid, control_of_pid=plan.pid, is_control=True)
