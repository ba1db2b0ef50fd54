"""The application: all routes, and how errors are answered."""

from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from showo_turbo import __version__
from showo_turbo.serving.http import chat_routes, image_routes, model_routes, page_routes
from showo_turbo.serving.http.error_bodies import ApiError, ClientGoneError, to_api_error
from showo_turbo.serving.http.gate import OPEN_PATHS, Gate
from showo_turbo.serving.http.page_files import add_page_files, page_files
from showo_turbo.serving.http.server import Server


def create_app(server: Server) -> FastAPI:
    """Return the application; the page is a part of it if the server has `sidecar`."""
    app = FastAPI(
        title="Showo Turbo",
        version=__version__,
        description="Draw images and answer questions about images, in the shapes of OpenAI's API.",
        redoc_url=None,
        docs_url="/docs",
    )
    app.state.server = server
    for routes in (image_routes, chat_routes, model_routes):
        app.include_router(routes.router)
    open_paths: tuple[str, ...] = OPEN_PATHS
    if server.sidecar is not None:
        app.include_router(page_routes.router)
        add_page_files(app)
        open_paths += tuple(page_files())
    _add_error_handlers(app, server)
    app.add_middleware(
        Gate,
        keys=server.keys,
        limits=server.limits,
        metrics=server.metrics,
        origins=server.origins,
        only_loopback=server.only_loopback,
        logs=server.logs,
        open_paths=open_paths,
    )
    if server.origins:  # the outermost layer, since it answers requests that browsers send without a key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(server.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app


def _add_error_handlers(app: FastAPI, server: Server) -> None:
    """Answer all errors in the shape of OpenAI's API, and count them."""

    def respond(error: ApiError) -> Response:
        server.metrics.errors.labels(error.code).inc()
        return JSONResponse(error.body, error.status, error.headers)

    @app.exception_handler(ApiError)
    async def refuse(request: Any, error: ApiError) -> Response:
        return respond(error)

    @app.exception_handler(ClientGoneError)
    async def give_up(request: Any, error: ClientGoneError) -> Response:
        server.metrics.errors.labels("client_gone").inc()
        return Response(status_code=499)

    @app.exception_handler(Exception)
    async def fail(request: Any, error: Exception) -> Response:
        return respond(to_api_error(error))

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Any, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        known = "see /docs for the routes"
        return respond(ApiError(error.status_code, f"{error.detail}: {known}", code, headers=dict(error.headers or {})))
