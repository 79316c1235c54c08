"""Windows over the terminal dashboard: something told at length, and a question.

Main entries: `Told` and `Sure`. Both close with Escape; a question's first answer is No.
"""

from __future__ import annotations

from typing import ClassVar

from rich.console import RenderableType
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

__all__ = ["Sure", "Told"]


class Told(ModalScreen[None]):
    """Something told at length, under a title."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,q,enter", "close", "Close")]

    def __init__(self, title: str, what: RenderableType) -> None:
        super().__init__()
        self._title = title
        self._what = what

    def compose(self) -> ComposeResult:
        """Textual's."""
        with Vertical(classes="window"):
            yield Static(Text(self._title, no_wrap=True, overflow="ellipsis"), classes="title")
            with VerticalScroll(id="told"):
                yield Static(self._what, id="told-text")
            yield Static(Text("Esc closes, arrows scroll", "dim"), classes="hint")

    def on_mount(self) -> None:
        """Textual's: arrows scroll at once."""
        self.query_one("#told").focus()

    def action_close(self) -> None:
        """Back to the tables."""
        self.dismiss(None)


class Sure(ModalScreen[bool]):
    """A question that is answered by y, n, or a button. Its result: whether it was a yes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("y", "answer(True)", "Yes"), ("n,escape,q", "answer(False)", "No"), ("left,right", "other", "Choose"),
    ]  # fmt: skip

    def __init__(self, question: str, yes: str) -> None:
        super().__init__()
        self._question = question
        self._yes = yes

    def compose(self) -> ComposeResult:
        """Textual's."""
        with Vertical(classes="window question"):
            yield Static(Text(self._question), id="question")
            with Horizontal():
                yield Button("No (n)", id="no")
                yield Button(f"{self._yes} (y)", id="yes", variant="warning")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Textual's."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        """By letter."""
        self.dismiss(yes)

    def action_other(self) -> None:
        """The other button."""
        self.focus_next()
