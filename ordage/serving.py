"""`serve`: a page on this machine on which a picture is dropped and its age distribution shown, and a JSON endpoint."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .detection import MARGIN, Detector, cut
from .devices import find_device
from .errors import MissingError, UsageError
from .images import decode, to_channels
from .predictor import load
from .report.pages import render

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from starlette.applications import Starlette
    from starlette.requests import Request

    from .detection import Face
    from .predictor import Predictor

__all__ = ["MEGABYTES", "make_app", "serve"]

MEGABYTES = 16  # that a picture may have
PIXELS = 64_000_000  # that are decoded of one: up to a gigabyte of memory, which a PNG of 200 kB can ask for
AT_ONCE = 2  # pictures that are decoded and looked at; more wait
WAITING = 16  # pictures that arrive or wait; more are refused
PATIENCE = 60.0  # seconds that a picture may take to arrive
FAREWELL = 2  # seconds that those who are being answered have when the server is to end
WHOLE = 2**16  # pixels: more than any photograph has across
MISSING = "serve needs starlette and uvicorn: pip install 'ordage[serve]'"
LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(
    run: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    detect: bool = False,
    megabytes: int = MEGABYTES,
    device: str | None = None,
    opened: bool = False,
) -> None:
    """Serve a model until somebody stops it: what ``ordage serve`` does.

    Args:
        run: as `load` takes it.
        host: address to listen on; another than this machine's own lets others in.
        port: of that address; 0 takes any that is free.
        detect: whether pictures are photographs in which faces are to be found.
        megabytes: that a picture may have.
        device: where to predict; the GPU when there is one.
        opened: whether to show the page in the browser.

    Raises:
        UsageError: an address that is taken, or not this machine's.
        MissingError: the libraries of ``ordage[serve]`` are not there.
    """
    try:
        import uvicorn
    except ImportError:
        raise MissingError(MISSING) from None
    predictor = load(run, device=find_device(device))
    app = make_app(predictor, detector=Detector() if detect else None, megabytes=megabytes, host=host)
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--host {host} --port {port}: {reason}; choose another by --port") from None
    name = f"[{host}]" if ":" in host else host
    address = f"http://{name}:{listening.getsockname()[1]}"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(f"{address} answers until Ctrl-C; pictures stay in memory and are not kept", flush=True)
            if opened:
                webbrowser.open(address)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # that somebody is cut off is no error now
            await super().shutdown(sockets)

    with suppress(KeyboardInterrupt):  # which uvicorn, having ended in good order, passes on: it is no failure here
        Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=FAREWELL)).run(sockets=[listening])


def make_app(
    predictor: Predictor,
    *,
    detector: Detector | None = None,
    megabytes: int = MEGABYTES,
    host: str = "127.0.0.1",
) -> Starlette:
    """Return the application: ``GET /`` is the page, ``POST /predict`` takes the bytes of a picture.

    Args:
        predictor: the model.
        detector: finds faces in photographs; without it a picture is a face.
        megabytes: that a picture may have.
        host: that it is reached by; where it is this machine's own, requests that name another are refused.

    Raises:
        MissingError: starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.requests import ClientDisconnect
        from starlette.responses import HTMLResponse, JSONResponse
        from starlette.routing import Route
    except ImportError:
        raise MissingError(MISSING) from None

    page = render(
        "serve.html",
        name=predictor.name,
        loss=predictor.loss,
        classes=predictor.classes,
        detects=detector is not None,
        trained_on=predictor.trained_on,
        megabytes=megabytes,
    )

    places, seats = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(WAITING)

    def refuse(error: str, status: int) -> JSONResponse:
        # Closed, because whoever has not sent all of a picture could keep the connection for ever.
        return JSONResponse({"error": error}, status, headers={"connection": "close"})

    async def show(request: Request) -> HTMLResponse:
        return HTMLResponse(page)

    async def answer(request: Request) -> JSONResponse:
        if (origin := request.headers.get("origin")) and origin != f"{request.url.scheme}://{request.url.netloc}":
            return refuse("a page of another site asks", 403)
        if seats.locked():
            return refuse(f"{WAITING} pictures are waiting already; try again in a moment", 503)
        async with seats:
            return await take(request)

    async def take(request: Request) -> JSONResponse:
        content = bytearray()
        try:
            async with asyncio.timeout(PATIENCE):
                async for piece in request.stream():
                    content += piece
                    if len(content) > megabytes * 2**20:
                        return refuse(f"the picture has more than {megabytes} MB", 413)
        except TimeoutError:
            return refuse(f"the picture did not arrive within {PATIENCE:g} seconds", 408)
        except ClientDisconnect:
            return refuse("nobody is there any more", 400)  # which nobody reads
        try:
            async with places:
                found = await run_in_threadpool(look, predictor, bytes(content), detector)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 422)
        return JSONResponse(found)

    # So that no page of another site reaches the model under a name that it has pointed at this machine.
    trusted = [Middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL, "[::1]"])] if host in LOCAL else []
    return Starlette(routes=[Route("/", show), Route("/predict", answer, methods=["POST"])], middleware=trusted)


def look(predictor: Predictor, content: bytes, detector: Detector | None = None) -> dict[str, Any]:
    """Return what is said of the bytes of a picture, as JSON holds it.

    Raises:
        ValueError: they are no picture, one that is cut off, or one of too many pixels.
    """
    spec = predictor.spec
    if detector is None:
        prepared, info = spec.decode(content, at_most=PIXELS)
        return _told(predictor, prepared[None], [None], info.width, info.height)
    photograph, info = decode(content, chans=3, at_least=WHOLE, at_most=PIXELS)
    faces = detector(photograph)
    crops = [spec.fitted(to_channels(cut(photograph, face, MARGIN), spec.chans)[None]) for face in faces]
    none = np.empty((0, spec.size, spec.size, spec.chans), np.uint8)
    return _told(predictor, np.concatenate([none, *crops]), list(faces), info.width, info.height)


def _told(
    predictor: Predictor, pixels: NDArray[np.uint8], faces: list[Face | None], width: int, height: int
) -> dict[str, Any]:
    ages = predictor.of_pixels(pixels)
    rows = ages.to_frame().to_dict("records")
    answers = []
    for row, face, bins, classes in zip(rows, faces, ages.bin_probs, ages.probs, strict=True):
        answers.append(
            {
                **{str(name): _plain(value) for name, value in row.items()},
                "box": None if face is None else [face.left, face.top, face.right, face.bottom],
                "bin_probabilities": dict(zip(ages.bins.labels, bins.tolist(), strict=True)),
                "class_probabilities": classes.tolist(),
            }
        )
    return {
        "width": width,
        "height": height,
        "unit": ages.classes.unit,
        "values": list(ages.classes.values),
        "bins": list(ages.bins.labels),
        "coverage": None if ages.calibration is None else ages.calibration.intervals.coverage,
        "faces": answers,
    }


def _plain(value: Any) -> Any:
    """Return a number as JSON has it: no infinity, no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
