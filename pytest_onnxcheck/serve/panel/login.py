"""The page that asks for the token, and the cookie that says that it was given."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Form, Request
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from pytest_onnxcheck.serve.http.security import cookie_name
from pytest_onnxcheck.serve.panel.rendering import asset, render

if TYPE_CHECKING:
    from pytest_onnxcheck.serve.http.security import Access

__all__ = ["LOGIN", "router"]

#: where the page is
LOGIN = "/login"

#: seconds that an answer to a wrong token takes
_PATIENCE = 1.0

router = APIRouter(include_in_schema=False)


@router.api_route(LOGIN, methods=["GET", "HEAD"])
def ask(request: Request) -> Response:
    """The page."""
    return _page(request, wrong=False)


@router.post(LOGIN)
async def enter(request: Request, token: Annotated[str, Form(max_length=4096)]) -> Response:
    """Sends a browser that has the token to the panel, with a cookie."""
    access: Access = request.app.state.access
    if not access.is_token(token):
        await asyncio.sleep(_PATIENCE)
        return _page(request, wrong=True)
    answer = RedirectResponse(f"{request.scope.get('root_path', '')}/", 303)
    answer.set_cookie(
        cookie_name(request.scope),
        access.cookie(),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path=request.scope.get("root_path", "") or "/",
    )
    return answer


def _page(request: Request, *, wrong: bool) -> Response:
    action = f"{request.scope.get('root_path', '')}{LOGIN}"
    text = render("login", style=Markup(asset("login.css")), action=action, wrong=wrong)
    headers = {
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        "Cache-Control": "no-store",
        # without a referrer a browser does not say either that the form is the page's own
        "Referrer-Policy": "same-origin",
    }
    return HTMLResponse(text, 401 if wrong else 200, headers)
