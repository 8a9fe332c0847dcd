"""The lock on a state folder, and the ports that are remembered in it."""

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from deploy import lock
from deploy.errors import StackError
from deploy.lock import stack_lock
from deploy.ports import free_port, remembered_ports


def test_two_stacks_never_share_a_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(lock, "STARTING_PATIENCE_SECONDS", 0.2)
    refused = pytest.raises(StackError, match=f"runs already on .* \\(pid {os.getpid()}\\)")
    with stack_lock(tmp_path), refused, stack_lock(tmp_path):
        pass
    with stack_lock(tmp_path):
        pass


def test_a_stack_that_is_stopping_is_waited_for(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(lock, "STARTING_PATIENCE_SECONDS", 0.0)
    first = stack_lock(tmp_path)
    held = first.__enter__()
    held.say_stopping()
    threading.Timer(0.4, lambda: first.__exit__(None, None, None)).start()
    began = time.monotonic()
    with stack_lock(tmp_path):
        assert time.monotonic() - began > 0.3


def test_ports_are_the_same_again_unless_taken(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = remembered_ports(file, ("a", "b", "c"))
    assert len(set(first.values())) == 3
    assert remembered_ports(file, ("a", "b", "c")) == first
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first["b"]))
        taken.listen()
        again = remembered_ports(file, ("a", "b"))
    assert again["a"] == first["a"]
    assert again["b"] != first["b"]
    assert json.loads(file.read_text())["c"] == first["c"]


@pytest.mark.parametrize("content", ["", "[]", '{"a": "x"}', '{"a": null}', "nonsense"])
def test_a_broken_file_of_ports_is_no_obstacle(tmp_path: Path, content: str) -> None:
    file = tmp_path / "ports.json"
    file.write_text(content)
    assert remembered_ports(file, ("a",))["a"] > 0


def test_a_port_that_is_taken_is_not_given_out() -> None:
    port = free_port()
    assert free_port(frozenset([port])) != port
