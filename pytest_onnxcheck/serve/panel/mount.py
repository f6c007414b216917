"""The panel beside the API: one app, one port, one token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from starlette.middleware import Middleware
from starlette.responses import RedirectResponse, Response

from pytest_onnxcheck.report.html.excerpt import style
from pytest_onnxcheck.serve.panel import downloads, login
from pytest_onnxcheck.serve.panel.desk import Desk
from pytest_onnxcheck.serve.panel.doors import PATH, OnlyThePage
from pytest_onnxcheck.serve.panel.page import build
from pytest_onnxcheck.serve.panel.rendering import asset

if TYPE_CHECKING:
    from pytest_onnxcheck.serve.http.security import Access
    from pytest_onnxcheck.serve.http.state import State

__all__ = ["add_routes", "mount"]

#: what the page shows of ours, named so that these rules go before Gradio's own
_OURS = ".gradio-container .onnxcheck"

_SYSTEM = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONOSPACE = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def mount(app: FastAPI) -> None:
    """Adds the panel under `/panel`, where `/` leads, and the page that asks for the token.

    Args:
        app: What `create_app` made, before it answers anything.
    """
    door: State = app.state.door
    add_routes(app)
    manifest = door.catalogue.path
    page = build(Desk(door.catalogue, door.jobs), f"{manifest.parent.name}/{manifest.name}")
    import gradio as gr

    gr.mount_gradio_app(
        app,
        page,
        PATH,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        max_file_size=0,
        theme=_theme(),
        head=f"<style>{style(_OURS)}{asset('panel.css')}</style>",
    )


def add_routes(app: FastAPI) -> None:
    """Adds what is not Gradio's: the way to the page, its downloads, the token, and the doors."""
    access: Access = app.state.access
    app.include_router(login.router)
    app.include_router(downloads.router)
    for path, answer in (("/", _to_the_page), (PATH, _to_the_page), ("/favicon.ico", _icon)):
        app.add_api_route(
            path, answer, methods=["GET", "HEAD"], include_in_schema=False, response_model=None
        )
    # `add_middleware` would put it before those that ask for the token and take in bodies
    app.user_middleware.append(Middleware(OnlyThePage))
    if access.token is not None:
        access.login = login.LOGIN


def _theme() -> Any:
    """Fonts of the system, and colours with enough contrast in the light and in the dark."""
    import gradio as gr

    return gr.themes.Base(font=_SYSTEM, font_mono=_MONOSPACE).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
    )


def _to_the_page(request: Request) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '')}{PATH}/", 307)


def _icon() -> Response:
    return Response(asset("icon.svg"), media_type="image/svg+xml")
