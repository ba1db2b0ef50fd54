"""Models, health and metrics."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from showo_turbo.serving.http.application import ERRORS, Server, now
from showo_turbo.serving.http.error_bodies import ApiError

if TYPE_CHECKING:
    from fastapi import FastAPI


def add_model_routes(app: "FastAPI", server: Server, bearer: Any) -> None:
    """Add the routes that describe the server."""
    from fastapi import Depends, Response
    from fastapi.responses import JSONResponse

    started = now()

    def describe(name: str) -> dict[str, Any]:
        pipe = server.worker.pipes[name]
        own = {"resolution": pipe.resolution, "recommended": asdict(pipe.recommended)}
        return {"id": name, "object": "model", "created": started, "owned_by": "showo-turbo", "showo": own}

    @app.get("/v1/models", dependencies=[Depends(bearer)], responses=ERRORS)
    async def list_models() -> Response:
        """List the models."""
        return JSONResponse({"object": "list", "data": [describe(name) for name in server.worker.pipes]})

    @app.get("/v1/models/{model:path}", dependencies=[Depends(bearer)], responses=ERRORS)
    async def get_model(model: str) -> Response:
        """Describe a model."""
        return JSONResponse(describe(server.pipe(model)[0]))

    @app.get("/health", responses=ERRORS)
    async def health() -> Response:
        """Return 200 while the server works."""
        if not server.worker.alive:
            raise ApiError(503, "the worker has stopped: restart the server", "worker_stopped")
        return JSONResponse({"status": "ok"})

    @app.get("/ready", responses=ERRORS)
    async def ready() -> Response:
        """Return 200 while new requests are taken."""
        if server.worker.draining or not server.worker.alive:
            raise ApiError(503, "the server is stopping", "draining")
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", dependencies=[Depends(bearer)], responses=ERRORS)
    async def metrics() -> Response:
        """Return measurements for Prometheus."""
        content, content_type = server.metrics.text()
        return Response(content, headers={"Content-Type": content_type})
