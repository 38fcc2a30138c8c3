"""gRPC's own implementation as a peer, in a process of its own: its threads and `fork` do not mix.

python grpcio_peer.py serve PATH OPTIONS      commands on stdin, one line each; answers on stdout
python grpcio_peer.py call PATH SCENARIO      prints what came of it, as JSON
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

BIG = bytes(range(256)) * 12_000  # 3 MB: many windows


class Handlers(grpc.GenericRpcHandler):
    """What the server does."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self.push = threading.Event()
        self.cancelled = threading.Event()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        self.metadata = {k: v for k, v in details.invocation_metadata if isinstance(v, str)}
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        return {
            "/S/Echo": unary(lambda request, _: request),
            "/S/Denied": unary(self.denied),
            "/S/Slow": unary(self.slow),
            "/S/Many": stream(self.many),
            "/S/Late": stream(self.late),
        }.get(details.method)

    def denied(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("x-bin", b"\0\1"),))
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued: 100% nö\n")

    def slow(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.add_callback(self.cancelled.set)
        self.push.wait(10)
        return b""

    def many(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for i in range(200):
            yield bytes([i]) * (i * 100)
        yield BIG

    def late(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(self.cancelled.set)
        yield b"first"
        self.push.wait(10)
        yield b"late"


def serve(path: str, options: str) -> None:
    """Serve until stdin ends."""
    handlers = Handlers()
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, handlers=[handlers], options=[tuple(o) for o in json.loads(options)])
        server.add_insecure_port(f"unix:{path}")
        server.start()
        commands: dict[str, Callable[[], Any]] = {
            "push": handlers.push.set,
            "push later": threading.Timer(1.2, handlers.push.set).start,
            "cancelled": lambda: handlers.cancelled.wait(10),
            "metadata": lambda: handlers.metadata,
            "stop": lambda: bool(server.stop(10)),
        }
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            print(json.dumps(commands[line.strip()]()), flush=True)
        handlers.push.set()
        server.stop(None).wait()


def digest(messages: list[bytes]) -> list[Any]:
    """Enough to compare many messages by."""
    return [len(messages), hashlib.sha256(b"|".join(messages)).hexdigest()]


def failure(call: Callable[[], Any]) -> list[Any]:
    """The status that a call fails with."""
    try:
        return ["OK", repr(call())]
    except grpc.RpcError as error:
        return [error.code().name, error.details()]


def at_once(channel: grpc.Channel) -> list[Any]:
    futures = [channel.unary_unary("/S/Echo").future(b"%d" % i, timeout=30) for i in range(500)]
    return digest([f.result() for f in futures])


def deadline(channel: grpc.Channel) -> list[Any]:
    answers = channel.unary_stream("/S/Forever")(b"", timeout=2)  # in which the first one has to come
    return [next(answers).decode(), *failure(lambda: next(answers))]


def cancelling(channel: grpc.Channel) -> str:
    for _ in range(150):
        answers = channel.unary_stream("/S/Forever")(b"", timeout=10)
        assert next(answers) == b"first"
        answers.cancel()
    return str(channel.unary_unary("/S/Echo")(b"alive", timeout=10), "ascii")


def waiting(channel: grpc.Channel) -> list[Any]:
    answers = channel.unary_stream("/S/Forever")(b"", timeout=10)
    print(json.dumps(next(answers).decode()), flush=True)
    return failure(lambda: next(answers))


SCENARIOS: dict[str, Callable[[grpc.Channel], Any]] = {
    "unary": lambda c: digest([c.unary_unary("/S/Echo")(b"%d" % i, timeout=10) for i in range(300)]),
    "at once": at_once,
    "large": lambda c: digest([c.unary_unary("/S/Echo")(BIG, timeout=30)]),
    "stream": lambda c: digest(list(c.unary_stream("/S/Many")(b"", timeout=30))),
    "status": lambda c: failure(lambda: c.unary_unary("/S/Denied")(b"", timeout=10)),
    "unknown method": lambda c: failure(lambda: c.unary_unary("/S/Nope")(BIG, timeout=10)),
    "too large": lambda c: failure(lambda: c.unary_unary("/S/Echo")(bytes(5_000_000), timeout=10)),
    "metadata": lambda c: c.unary_unary("/S/Headers")(
        b"", timeout=10, metadata=[("workload.spiffe.io", "true"), ("x-bin", b"\0\1")]
    ).decode(),
    "deadline": deadline,
    "cancelling": cancelling,
    "waiting": waiting,
}


def call(path: str, scenario: str) -> None:
    """Run one scenario on one channel."""
    with grpc.insecure_channel(f"unix:{path}", options=[("grpc.max_receive_message_length", -1)]) as channel:
        print(json.dumps(SCENARIOS[scenario](channel)), flush=True)


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]](*sys.argv[2:])
