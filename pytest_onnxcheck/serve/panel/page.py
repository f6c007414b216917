"""The page in Gradio: what stands where, and which function answers what."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.manifest.precisions import PRECISIONS
from pytest_onnxcheck.serve.panel import history
from pytest_onnxcheck.serve.panel.choice import EXPORTERS, Choice
from pytest_onnxcheck.serve.panel.desk import PANES, Desk, Shown
from pytest_onnxcheck.serve.panel.pane import Pane
from pytest_onnxcheck.serve.panel.rendering import asset, render

if TYPE_CHECKING:
    import gradio

    from pytest_onnxcheck.serve.panel.view import View

__all__ = ["build"]

#: seconds between two looks at the jobs
_EVERY = 1.0

#: every answer is quick, shows no spinner, and is part of no API
_QUIET: dict[str, Any] = {
    "queue": False,
    "show_progress": "hidden",
    "api_visibility": "private",
}


def build(desk: Desk, shown: str) -> gradio.Blocks:
    """The page.

    Args:
        desk: What it asks.
        shown: What it says of the manifest.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    with gr.Blocks(title="onnxcheck", analytics_enabled=False) as page:
        _Page(desk, page).lay_out(shown)
    return page


@dataclass
class _Tab:
    """The components of a tab."""

    pane: Pane
    body: Any
    button: Any = None
    cancel: Any = None
    status: Any = None
    log: Any = None
    chosen: Any = None
    job: Any = None

    def changing(self) -> list[Any]:
        """Those that a look at the jobs changes."""
        found = [self.button, self.status, self.log, self.cancel, self.body, self.chosen, self.job]
        return [each for each in found if each is not None]

    def values(
        self, shown: Shown, titles: tuple[tuple[str, str], ...] = (), id: str | None = None
    ) -> list[Any]:
        """What they are to show, in the same order; of a list its titles, and what is chosen."""
        found = [
            (self.button, shown.starts),
            (self.status, shown.status),
            (self.log, shown.log),
            (self.cancel, shown.runs),
            (self.body, shown.body),
            (self.chosen, (titles, id)),
            (self.job, shown.job),
        ]
        return [value for component, value in found if component is not None]


class _Page:
    """The components, and what happens to them."""

    def __init__(self, desk: Desk, page: gradio.Blocks) -> None:
        self._desk = desk
        self._page = page
        self._tabs: list[_Tab] = []

    def lay_out(self, shown: str) -> None:
        """Puts every component into its place."""
        import gradio as gr

        with gr.Row(equal_height=False):
            gr.HTML(render("head", manifest=shown), apply_default_css=False)
            self._refresh = gr.Button("Refresh", size="sm", scale=0, min_width=110)
        with gr.Group():
            with gr.Row():
                self._table = gr.Dropdown([], label="Model", scale=3, min_width=260)
                self._weights = gr.Dropdown(
                    [], label="Checkpoint, the newest first", scale=5, min_width=260
                )
            with gr.Row():
                self._file_name = gr.Textbox(
                    label="File name", max_length=200, scale=3, min_width=200
                )
                self._exporter = gr.Radio([*EXPORTERS], label="Exporter", scale=3, min_width=200)
                self._opset = gr.Number(label="Opset", scale=1, min_width=90)
            with gr.Row():
                self._precisions = gr.CheckboxGroup(
                    [*PRECISIONS], label="Precisions", scale=5, min_width=320
                )
                self._dynamic = gr.Checkbox(True, label="Dynamic sizes", scale=1, min_width=200)
        self._notice = self._html("notice")
        self._seen = gr.State([])
        # what is chosen of the checkpoints: Gradio refuses a value that its list has lost meanwhile
        self._key = gr.State(None)
        with gr.Tabs() as self._all_tabs:
            for pane in PANES:
                with gr.Tab(pane.name, id=pane.name):
                    self._tabs.append(self._tab(pane))
        self._changing = [each for tab in self._tabs for each in tab.changing()]
        self._connect()

    def _tab(self, pane: Pane) -> _Tab:
        """The components of a tab, from top to bottom."""
        import gradio as gr

        gr.HTML(render("about", pane=pane), apply_default_css=False)
        tab = _Tab(pane, None)
        if pane.kind is not None:
            with gr.Row():
                tab.button = gr.Button(pane.button, variant="primary", size="md", scale=0)
                tab.cancel = gr.Button("Cancel", variant="stop", size="md", scale=0, visible=False)
        if pane is history.PANE:
            tab.body = self._html()
            tab.chosen = gr.Dropdown([], label="Job", value=None)
            tab.cancel = gr.Button(
                "Cancel this job", variant="stop", size="md", scale=0, visible=False
            )
        if tab.cancel is not None:
            # what Cancel ends: the job that is shown, whichever is current meanwhile
            tab.job = gr.State(None)
            tab.status = self._html()
            tab.log = gr.Textbox(
                label="Log, times in UTC",
                lines=4,
                max_lines=9,
                interactive=False,
                visible=False,
                autoscroll=False,
                elem_classes="log",
            )
        tab.body = tab.body or self._html()
        return tab

    def _html(self, name: str | None = None) -> Any:
        import gradio as gr

        return gr.HTML("", apply_default_css=False, elem_classes=name)

    def _connect(self) -> None:
        """Says what happens when something is chosen or pressed, and every second."""
        import gradio as gr

        chosen = next(tab.chosen for tab in self._tabs if tab.chosen is not None)
        asked = [self._table, self._key, self._file_name, chosen, self._seen]
        look = {
            "fn": self._look,
            "inputs": asked,
            "outputs": [*self._changing, self._seen],
            **_QUIET,
        }
        options = [self._exporter, self._opset, self._dynamic, self._precisions]
        offer = [self._table, self._weights, self._key, self._file_name, *options, self._notice]

        self._page.load(self._load, None, [*offer, self._all_tabs], **_QUIET).then(**look)
        self._table.input(self._choose, self._table, offer, **_QUIET).then(**look)
        given = [self._table, self._key]
        self._refresh.click(self._again, given, [*offer, self._seen], **_QUIET).then(**look)
        self._weights.input(
            self._named, [self._table, self._weights], [self._key, self._file_name], **_QUIET
        ).then(**look)
        chosen.input(**look)
        follow = {"fn": None, "js": asset("follow.js"), **_QUIET}
        self._all_tabs.select(**follow)
        gr.Timer(_EVERY).tick(**look)
        for tab in self._tabs:
            if tab.log is not None:
                tab.log.change(**follow)
            if tab.pane.kind is not None:
                start = functools.partial(self._start, tab.pane.kind)
                tab.button.click(start, [*given, *options], self._notice, **_QUIET).then(**look)
            if tab.cancel is not None:
                tab.cancel.click(self._cancel, tab.job, self._notice, **_QUIET).then(**look)

    def _load(self) -> list[Any]:
        """Finds the job that runs, so that a page that is loaded anew goes on with it."""
        import gradio as gr

        table, key, tab = self._desk.current()
        return [*self._offer(table, key), gr.Tabs(selected=tab) if tab else gr.skip()]

    def _choose(self, table: str | None) -> list[Any]:
        return self._offer(table, None)

    def _again(self, table: str | None, key: str | None) -> list[Any]:
        """Reads the manifest and its globs anew; what is chosen stays, where it is still there.

        The page counts as one that shows nothing yet: the tabs have to be as the files are now.
        """
        import gradio as gr

        found = self._offer(table, key)
        offer = self._desk.offer(table)
        if offer.find(key) is not None:
            kept = gr.update(visible=not offer.given)
            found = [*found[:3], *[kept] * (len(found) - 4), found[-1]]
        return [*found, []]

    def _offer(self, table: str | None, key: str | None) -> list[Any]:
        """What can be chosen of a table: components, in the order of `offer`."""
        import gradio as gr

        names = self._desk.tables()
        table = table if table in names else next(iter(names), None)
        found = self._desk.offer(table)
        weights = found.find(key) or found.newest
        key = None if weights is None else weights.key
        exports = not found.given
        return [
            gr.Dropdown(choices=names, value=table),
            gr.Dropdown(choices=[(each.label, each.key) for each in found.weights], value=key),
            key,
            gr.update(value="" if weights is None else weights.file_name, visible=exports),
            gr.Radio(
                choices=list(found.exporters),
                value=next(iter(found.exporters), None),
                visible=exports,
            ),
            gr.update(value=found.opset, visible=exports),
            gr.update(visible=exports),
            gr.update(value=list(found.precisions), visible=exports),
            render("notice", text=found.trouble),
        ]

    def _named(self, table: str | None, key: str | None) -> tuple[str | None, str]:
        weights = self._desk.weights(table, key)
        return key, "" if weights is None else weights.file_name

    def _start(
        self,
        kind: str,
        table: str | None,
        key: str | None,
        exporter: str | None,
        opset: float | None,
        dynamic: bool,
        precisions: list[str],
    ) -> str:
        weights = self._desk.offer(table).find(key)
        choice = None
        if weights is not None:
            choice = Choice(weights, exporter, opset, dynamic, tuple(precisions))
        return render("notice", text=self._desk.start(kind, choice))

    def _cancel(self, job: str | None) -> str:
        return render("notice", text=self._desk.cancel(job) if job else "Choose a job first.")

    def _look(
        self,
        table: str | None,
        key: str | None,
        file_name: str,
        chosen: str | None,
        seen: list[int],
    ) -> list[Any]:
        """What the tabs show; what the page shows already is left as it is."""
        import gradio as gr

        stamp = hash((self._desk.stamp(), table, key, file_name, chosen))
        if seen and seen[0] == stamp:
            return [gr.skip()] * (len(self._changing) + 1)
        values = self._values(table, key, file_name, chosen)
        hashes = [hash(value) for value in values]
        known: list[int | None] = [*seen[1:]] or [None] * len(values)
        updates = [
            gr.skip() if old == new else _update(component, value)
            for component, value, old, new in zip(
                self._changing, values, known, hashes, strict=True
            )
        ]
        return [*updates, [stamp, *hashes]]

    def _values(
        self, table: str | None, key: str | None, file_name: str, chosen: str | None
    ) -> list[Any]:
        """What every component that changes is to show, in the order of `_changing`."""
        weights = self._desk.weights(table, key)
        if weights is None:
            return self._without(
                "There is nothing to show: choose a checkpoint, or train one and press Refresh."
            )
        try:
            view = self._desk.look(weights, file_name or weights.file_name)
            return [value for tab in self._tabs for value in self._of_tab(tab, view, chosen)]
        except OnnxCheckError as error:  # such as a store that is away
            return self._without(str(error))

    def _without(self, text: str) -> list[Any]:
        """The same, where there is nothing to show."""
        nothing = Shown("", "", False, render("nothing", text=text))
        return [value for tab in self._tabs for value in tab.values(nothing)]

    def _of_tab(self, tab: _Tab, view: View, chosen: str | None) -> list[Any]:
        shown = self._desk.shown(tab.pane, view)
        if tab.chosen is None:
            return tab.values(shown)
        titles = tuple(self._desk.titles(view.history))
        ids = [id for _, id in titles]
        id = chosen if chosen in ids else next(iter(ids), None)
        return tab.values(replace(self._desk.job(id), body=shown.body), titles, id)


def _update(component: Any, value: Any) -> Any:
    """What Gradio takes for a component that is to show a value."""
    import gradio as gr

    if isinstance(component, gr.Button):
        return gr.Button(visible=value)
    if isinstance(component, gr.Textbox):
        return gr.Textbox(value=value, visible=bool(value))
    if isinstance(component, gr.Dropdown):
        titles, id = value
        return gr.Dropdown(choices=list(titles), value=id)
    return value
