"""What the workloads do to a real server."""

import itertools
from typing import Any

from cachelib import Client
from runbook.load import Ledger
from runbook.load.workload import Basics
from runbook.targets import Embedded


def test_it_arrives_in_the_list_in_its_order(server: Embedded, connect_to: Any) -> None:
    client: Client = connect_to(server, decode_responses=True)
    for operation in itertools.islice(Ledger("ledger").operations(0), 3):
        operation.call(client)
    assert client.lrange("ledger", 0, -1) == ["0:0", "0:1", "0:2"]


def test_against_a_loaded_server_each_operation_gets_the_reply_that_it_expects(server: Embedded, connect_to: Any) -> None:
    client: Client = connect_to(server)
    workload = Basics("basics:", keys=20)
    workload.load(client)
    wrong = [operation.name for operation in itertools.islice(workload.operations(0), 100) if operation.call(client) != operation.expected]
    assert wrong == []


def test_unloading_leaves_only_what_was_there_before(server: Embedded, connect_to: Any) -> None:
    client: Client = connect_to(server, decode_responses=True)
    client.set("somebody's", "value")
    workload = Basics("basics:", keys=20)
    workload.load(client)
    assert client.dbsize() == 21
    workload.unload(client)
    assert client.keys() == ["somebody's"]
