"""Free loopback ports, the same ones as last time where they are still free."""

import json
import random
import socket
from pathlib import Path

# Below the range from which Linux takes the client side of connections: a client polling a port of that range
# before the server listens can end up connected to itself.
FIRST_PORT, LAST_PORT = 20_000, 32_000


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(taken: frozenset[int] = frozenset()) -> int:
    """A loopback port that nobody listens on, none of `taken`."""
    for _ in range(1000):
        port = random.randint(FIRST_PORT, LAST_PORT)  # noqa: S311 - a port is no secret
        if port not in taken and is_free(port):
            return port
    raise OSError(f"no free port between {FIRST_PORT} and {LAST_PORT}")


def remembered_ports(file: Path, names: tuple[str, ...]) -> dict[str, int]:
    """A free port per name; the ones in `file` are used again while they are free, and `file` is rewritten."""
    try:
        before = {str(name): int(port) for name, port in json.loads(file.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        before = {}
    ports: dict[str, int] = {}
    for name in names:
        known = before.get(name)
        if known is None or known in ports.values() or not is_free(known):
            known = free_port(frozenset([*ports.values(), *before.values()]))
        ports[name] = known
    file.write_text(json.dumps(before | ports, indent=1) + "\n")
    return ports
