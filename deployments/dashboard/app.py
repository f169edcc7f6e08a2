"""The live page's server: static files, the state as JSON and as a stream. Loopback only, and nothing here writes."""

from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from candlewick.json_text import to_json
from deployments.dashboard.watch import Watch

STATIC = Path(__file__).with_name("static")
# Who opens the page by another name than this machine's was sent here by a page of somebody else (DNS rebinding).
_HOSTS = ["127.0.0.1", "localhost"]
_HEADERS = {
    # Plotly writes style attributes.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def create_app(watch: Watch) -> FastAPI:
    """The app that shows what ``watch`` reads."""
    app = FastAPI(title="Candlewick desk", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)
    app.add_middleware(PageHeaders)
    files = {path.name: path for path in STATIC.iterdir()} | {"plotly.min.js": plotly_file()}

    @app.get("/")
    async def page() -> Response:
        return _file(STATIC / "index.html")

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        return _file(files[name]) if name in files else JSONResponse({"error": f"there is no file {name}"}, 404)

    @app.get("/api/state")
    async def state() -> Response:
        return _json(to_json(await watch.state()))

    @app.get("/api/candles")
    async def candles(symbol: str) -> Response:
        chart = await watch.chart(symbol)
        if chart is None:
            return JSONResponse({"error": f"the desk's session has no symbol {symbol}"}, 404)
        return _json(to_json(chart))

    @app.get("/api/stream")
    async def stream() -> Response:
        return StreamingResponse(watch.stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @app.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok", "watchers": watch.watchers, "looks": watch.looks})

    return app


def plotly_file() -> Path:
    """Plotly's script as the installed package has it; the package itself is not imported."""
    spec = find_spec("plotly")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "package_data" / "plotly.min.js"


class PageHeaders:
    """Puts the policy of the page on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app's answer to one request, with the headers."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers)


def _file(path: Path) -> Response:
    """A file; browsers keep plotly's five megabytes for a day, and see an update of the rest at once."""
    kept = "no-cache" if path.is_relative_to(STATIC) else "max-age=86400"
    return FileResponse(path, media_type=_KINDS[path.suffix], headers={"Cache-Control": kept})


def _json(text: str) -> Response:
    return Response(text, media_type="application/json", headers={"Cache-Control": "no-store"})
