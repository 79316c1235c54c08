"""The dashboard in a terminal: totals in a line, keys, live decisions. Needs Textual (the extra `tui`).

Main entry: `TopApp(service).run()`. Laws: the network is other threads' work, the screen is drawn from `Board` at most
`DRAWS_PER_S` times a second however much happens; a key is disabled or enabled after a question only; quitting waits
for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable, Footer, Input, Static

from apikeyrouter_proxy.cli.console import plain
from apikeyrouter_proxy.cli.failures import CliError
from apikeyrouter_proxy.cli.service import Remote
from apikeyrouter_proxy.tui.board import SORTS, Board
from apikeyrouter_proxy.tui.feed import Feed, ask
from apikeyrouter_proxy.tui.screens import Sure, Told
from apikeyrouter_proxy.tui.told import (
    DECISION_COLUMNS,
    KEY_COLUMNS,
    decision_cells,
    decision_told,
    key_cells,
    key_told,
    spark_line,
    totals_line,
)

__all__ = ["DRAWS_PER_S", "TopApp"]

DRAWS_PER_S = 4
_USABLE = ("available", "recovering")
_SORT_OF_COLUMN = {
    "key": "key", "state": "state", "left": "left", "forecast": "forecast", "busy": "in flight", "served": "served",
}  # fmt: skip
_STYLE = """
Screen { layout: vertical; }
#head, #totals { height: 1; padding: 0 1; }
#head { background: $primary-background; }
#search { display: none; height: 1; border: none; padding: 0 1; background: $boost; }
#search.open { display: block; }
DataTable { height: 1fr; scrollbar-size: 0 1; }
#keys { height: auto; max-height: 50%; min-height: 4; }
.part { height: 1; padding: 0 1; color: $text-muted; background: $boost; }
Sure, Told { align: center middle; background: $background 60%; }
.window { width: 90%; max-width: 120; height: 80%; border: round $primary; background: $surface; padding: 0 1; }
.question { width: 60; height: auto; padding: 1 2; }
.question Horizontal { height: auto; align-horizontal: right; margin-top: 1; }
.question Button { margin-left: 2; }
.title { text-style: bold; height: 1; }
.hint { height: 1; }
#told { height: 1fr; }
"""

Cells = Sequence[tuple[str, list[Text]]]


class Heard(Message):
    """Something came from the proxy."""

    def __init__(self, kind: str, data: Any) -> None:
        super().__init__()
        self.kind = kind
        self.data = data


class TopApp(App[None]):
    """`service`: the running proxy. `board`: what is known of it."""

    CSS = _STYLE
    TITLE = "ApiKeyRouter"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c", "quit", "Quit"),
        Binding("tab", "switch", "Keys/decisions", show=False, priority=True),
        Binding("o", "open", "Open", key_display="Enter"),
        Binding("slash", "search", "Filter"),
        Binding("s", "sort", "Sort"),
        Binding("r", "reverse", "Reverse"),
        Binding("d", "change_state", "Disable/enable"),
        Binding("p", "pause", "Pause"),
        Binding("escape", "clear", "Clear", show=False),
    ]

    def __init__(self, service: Remote) -> None:
        super().__init__()
        self.board = Board()
        self.link: str | None = "connecting"
        self.paused = False
        self._service = service
        self._feed = Feed(service, lambda kind, data: self.post_message(Heard(kind, data)))
        self._stale = self._stale_keys = True

    # -- life -------------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Textual's."""
        yield Static(id="head")
        yield Static(id="totals")
        yield Input(placeholder="label, provider, state, model, outcome ...", id="search")
        yield Static("Keys", classes="part", id="keys-title")
        yield DataTable(id="keys", cursor_type="row", zebra_stripes=True)
        yield Static("Decisions", classes="part", id="decisions-title")
        yield DataTable(id="decisions", cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        """Textual's: columns, threads, and the clock that draws."""
        for name, columns in (("#keys", KEY_COLUMNS), ("#decisions", DECISION_COLUMNS)):
            table = self._table(name)
            for key, title, width in columns:
                table.add_column(title, width=width, key=key)
        self._table("#keys").focus()
        self._feed.start()
        self.set_interval(1 / DRAWS_PER_S, self._draw)
        self._draw()

    def on_unmount(self) -> None:
        """Textual's."""
        self._feed.stop()

    # -- what comes -------------------------------------------------------------------------------------------------

    def on_heard(self, heard: Heard) -> None:
        """Takes what the proxy said into the board; drawn with the next turn."""
        board, data = self.board, heard.data
        take: dict[str, Callable[[], object]] = {
            "keys": lambda: board.take_keys(data),
            "pools": lambda: board.take_pools(data),
            "tick": lambda: board.take_tick(data),
            "decisions": lambda: board.take_decisions(data["items"]),
            "missed": lambda: setattr(board, "missed", board.missed + int(data["events"])),
            "link": lambda: setattr(self, "link", data or None),
        }
        if heard.kind in take:
            take[heard.kind]()
            self._stale = True
            self._stale_keys = self._stale_keys or heard.kind in ("keys", "pools")

    # -- drawing ----------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        if not self._stale or len(self.screen_stack) > 1:
            return
        self._stale = False
        board, totals = self.board, self.board.totals()
        self.query_one("#head", Static).update(self._head())
        self.query_one("#totals", Static).update(totals_line(totals))
        if self._stale_keys:  # a thousand keys take a tenth of a second: not with every tick
            self._stale_keys = False
            self._draw_keys()
        if not self.paused:
            shown = board.shown_decisions()
            missed = f", {board.missed} batches missed" if board.missed else ""
            title = Text(f"Decisions: the newest {len(shown)}{missed}  ", no_wrap=True, overflow="crop")
            title.append_text(spark_line(list(totals.history), max(10, self.size.width - len(title) - 4)))
            self.query_one("#decisions-title", Static).update(title)
            _fill(self._table("#decisions"), [(str(row["id"]), decision_cells(row)) for row in shown])
        else:
            self._title("decisions", "Decisions: paused (p goes on)")

    def _draw_keys(self) -> None:
        board = self.board
        usable = sum(key["state"] in _USABLE for key in board.keys.values())
        rows = board.rows()
        order = f"{board.sort}{', reversed' if board.reverse else ''}"
        some = f"{len(rows)} shown of " if len(rows) < len(board.keys) else ""
        self._title("keys", f"Keys: {some}{len(board.keys)}, {usable} usable, by {order}{self._searched()}")
        _fill(self._table("#keys"), [(row.key_id, key_cells(row)) for row in rows])

    def _head(self) -> Text:
        line = Text("ApiKeyRouter", "bold", no_wrap=True, overflow="ellipsis")
        line.append(f"  {self._service.origin}  ", "dim")
        if self.link is None:
            return line.append("live", "green")
        return line.append(plain(self.link), "yellow" if self.link == "connecting" else "bold red")

    def _searched(self) -> str:
        return f", with {plain(self.board.text)!r} (Esc clears)" if self.board.text else ""

    def _title(self, part: str, text: str) -> None:
        self.query_one(f"#{part}-title", Static).update(Text(text, no_wrap=True, overflow="ellipsis"))

    def _table(self, name: str) -> DataTable[Text]:
        return self.query_one(name, DataTable)

    def _redraw(self) -> None:
        self._stale = self._stale_keys = True
        self._draw()

    # -- what the user does -----------------------------------------------------------------------------------------

    def action_switch(self) -> None:
        """From one table to the other."""
        keys = self._table("#keys")
        (self._table("#decisions") if keys.has_focus else keys).focus()

    def action_open(self) -> None:
        """Opens what the cursor is on, as Enter does."""
        if isinstance(self.focused, DataTable):
            self.focused.action_select_cursor()

    def action_search(self) -> None:
        """Opens the field."""
        field = self.query_one("#search", Input)
        field.add_class("open")
        field.focus()

    def action_clear(self) -> None:
        """Closes the field and shows everything."""
        field = self.query_one("#search", Input)
        field.value = ""
        self._search_ends()

    def action_sort(self) -> None:
        """The next order."""
        orders = list(SORTS)
        self.board.sort = orders[(orders.index(self.board.sort) + 1) % len(orders)]
        self._redraw()

    def action_reverse(self) -> None:
        """The other way round."""
        self.board.reverse = not self.board.reverse
        self._redraw()

    def action_pause(self) -> None:
        """Decisions stand still, or go on."""
        self.paused = not self.paused
        self._redraw()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Textual's: filters while typing."""
        self.board.text = event.value
        self._redraw()

    def on_input_submitted(self) -> None:
        """Textual's: the filter stays."""
        self._search_ends()

    def _search_ends(self) -> None:
        self.query_one("#search", Input).remove_class("open")
        self._table("#keys").focus()

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Textual's: a click on a title sorts by it; another one turns it round."""
        wanted = _SORT_OF_COLUMN.get(str(event.column_key.value))
        if event.data_table.id != "keys" or wanted is None:
            return
        self.board.reverse = wanted == self.board.sort and not self.board.reverse
        self.board.sort = wanted
        self._redraw()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Textual's: Enter, or a click, opens what the cursor is on."""
        chosen = str(event.row_key.value)
        if event.data_table.id == "decisions":
            self.run_worker(self._open_decision(chosen), exclusive=True)
        elif chosen in self.board.keys:
            key = self.board.keys[chosen]
            self.push_screen(Told(f"Key {plain(key['label'])}", key_told(key, self.board.pools.get(chosen))))

    async def _open_decision(self, decision_id: str) -> None:
        told = await self._ask("GET", f"/api/v1/decisions/{quote(decision_id, safe='')}")
        if told is not None:
            labels = {key_id: str(key["label"]) for key_id, key in self.board.keys.items()}
            self.push_screen(Told(f"Decision {plain(decision_id)}", decision_told(told, labels)))

    def action_change_state(self) -> None:
        """Asks whether the key under the cursor is to be disabled, or enabled."""
        table = self._table("#keys")
        if not table.row_count:
            return
        key_id = str(table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value)
        key = self.board.keys.get(key_id)
        if key is None:
            return
        verb, done = ("enable", "enabled") if key["state"] in ("disabled", "invalid") else ("disable", "disabled")
        effect = "It serves again at once." if verb == "enable" else "Requests under way end; no new one takes it."
        question = f"{verb.capitalize()} the key {plain(key['label'])} of {plain(key['provider_id'])}? {effect}"

        def answered(yes: bool | None) -> None:
            if yes:
                self.run_worker(self._change(key_id, verb, f"{plain(key['label'])} is {done}."))

        self.push_screen(Sure(question, verb.capitalize()), answered)

    async def _change(self, key_id: str, verb: str, said: str) -> None:
        body = {"reason": "by hand, in the terminal dashboard"}
        if await self._ask("POST", f"/api/v1/keys/{quote(key_id, safe='')}/{verb}", body) is not None:
            self.notify(said)
            self._feed.refresh()

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer, or None after its message was shown."""
        try:
            return await asyncio.to_thread(ask, self._service, method, path, body)
        except CliError as failure:
            self.notify(plain(failure.message), severity="error", markup=False)
            return None


def _fill(table: DataTable[Text], rows: Cells) -> None:
    """Shows these rows; the cursor stays on its row, and what did not change is not drawn."""
    keys = [str(one.value) for one in table.rows]
    if keys == [key for key, _ in rows]:
        for at, (_, cells) in enumerate(rows):
            if table.get_row_at(at) != cells:
                for column, cell in enumerate(cells):
                    table.update_cell_at((at, column), cell)  # type: ignore[arg-type] # a pair is a coordinate
        return
    at = table.cursor_row
    chosen = keys[at] if at and 0 <= at < len(keys) else None  # on top it stays on top: the newest is there
    scrolled = table.scroll_y
    table.clear()
    for key, cells in rows:
        table.add_row(*cells, key=key)
    found = next((place for place, (key, _) in enumerate(rows) if key == chosen), 0)
    table.move_cursor(row=found, animate=False, scroll=False)
    table.scroll_to(y=scrolled + (found - at if chosen else 0), animate=False)
