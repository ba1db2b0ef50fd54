"""Models, health and metrics."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from showo_turbo.serving.http.error_bodies import ApiError
from showo_turbo.serving.http.server import BEARER, ERRORS, RequestServer, Server

router = APIRouter(responses=ERRORS)


@router.get("/v1/models", dependencies=[BEARER])
async def list_models(server: RequestServer) -> Response:
    """List the models."""
    return JSONResponse({"object": "list", "data": [_describe(server, name) for name in server.worker.pipes]})


@router.get("/v1/models/{model:path}", dependencies=[BEARER])
async def get_model(model: str, server: RequestServer) -> Response:
    """Describe a model."""
    return JSONResponse(_describe(server, server.pipe(model)[0]))


@router.get("/health")
async def health(server: RequestServer) -> Response:
    """Return 200 while the server works."""
    if not server.worker.alive:
        raise ApiError(503, "the worker has stopped: restart the server", "worker_stopped")
    return JSONResponse({"status": "ok"})


@router.get("/ready")
async def ready(server: RequestServer) -> Response:
    """Return 200 while new requests are taken."""
    if server.worker.draining or not server.worker.alive:
        raise ApiError(503, "the server is stopping", "draining")
    return JSONResponse({"status": "ready"})


@router.get("/metrics", dependencies=[BEARER])
async def metrics(server: RequestServer) -> Response:
    """Return measurements for Prometheus."""
    content, content_type = server.metrics.text()
    return Response(content, headers={"Content-Type": content_type})


def _describe(server: Server, name: str) -> dict[str, Any]:
    pipe = server.worker.pipes[name]
    own = {
        "resolution": pipe.resolution,
        "recommended": asdict(pipe.recommended),
        "edits_images": pipe.model.config.edits_images,
    }
    return {"id": name, "object": "model", "created": server.started, "owned_by": "showo-turbo", "showo": own}
