"""An extender that lets every node pass: what the hop alone costs, beside Tidal's answer."""

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import msgspec
import uvloop
from aiohttp import web

LOOPBACK = "127.0.0.1"
START_SECONDS = 30.0


class Asked(msgspec.Struct, frozen=True):
    """What is needed of an ExtenderArgs."""

    NodeNames: list[str]  # the API's name


async def _filter(request: web.Request) -> web.Response:
    asked = msgspec.json.decode(await request.read(), type=Asked)
    body = msgspec.json.encode({"NodeNames": asked.NodeNames, "FailedNodes": {}, "Error": ""})
    return web.Response(body=body, content_type="application/json")


async def _application(pipe: Connection) -> None:
    application = web.Application(client_max_size=16 * 2**20)
    application.router.add_post("/filter", _filter)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    pipe.send(runner.addresses[0][1])
    closed = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe.fileno(), closed.set)
    await closed.wait()
    await runner.cleanup()


def _serve(pipe: Connection) -> None:
    uvloop.run(_application(pipe))


@contextmanager
def trivial_extender() -> Iterator[str]:
    """Run it in a process of its own; its URL."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(theirs,), name="trivial-extender")
    child.start()
    theirs.close()
    try:
        if not ours.poll(START_SECONDS):
            raise RuntimeError("the trivial extender did not start")
        yield f"http://{LOOPBACK}:{ours.recv()}"
    finally:
        ours.close()
        child.join()
