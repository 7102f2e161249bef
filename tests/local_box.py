"""placeholder"""

import socket, time


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_until(seen, what, timeout=30.0):
    deadline = time.monotonic() + timeout
    while not (found := seen()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.02)
    return found
