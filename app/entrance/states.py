"""What gradio keeps of a window: which of its components were changed, and nothing of what a visitor entered.

Gradio's own holder keeps ten thousand of these under whatever name comes, each with the configuration of every
component and the values that were sent last, for links that this page does not have.
"""

from __future__ import annotations

from copy import copy
from datetime import datetime
from typing import Any

from gradio.blocks import Blocks
from gradio.state_holder import SessionState, StateHolder

from app.entrance.callers import Callers

MAX_STATES = 256
"""Windows: four kilobytes each, and what was changed. One whose is dropped has the sliders' ranges of the beginning."""


class PageState(SessionState):
    """A window's components. The page has no `gr.State`, which a `SessionState` keeps besides."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks_config = copy(blocks.default_config)
        self.config_values, self.state_data, self._state_ttl = {}, {}, {}
        self.is_closed = False

    def __setitem__(self, key: int, value: Any) -> None:
        self.blocks_config.blocks[key] = value

    def _update_config(self, key: int) -> None:
        """Keeps no configuration."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Keeps no value."""


class PageStates(StateHolder):
    """At most `MAX_STATES`; where there are more, the least recently used that nobody listens for goes first."""

    def __init__(self, callers: Callers) -> None:
        super().__init__()
        self._callers = callers

    def set_blocks(self, blocks: Blocks) -> None:
        """Of which page they are."""
        super().set_blocks(blocks)
        self.capacity = MAX_STATES

    def __getitem__(self, session_id: str) -> SessionState:
        with self.lock:
            state = self.session_data.get(session_id)
            if state is None:
                state = self.session_data[session_id] = PageState(self.blocks)
                self._drop_one(session_id)
            self.session_data.move_to_end(session_id)
            self.time_last_used[session_id] = datetime.now()
            return state

    def _drop_one(self, newest: str) -> None:
        if len(self.session_data) > self.capacity:
            others = [name for name in self.session_data if name != newest]
            dropped = next((name for name in others if not self._callers.hear(name)), others[0])
            del self.session_data[dropped]
            self.time_last_used.pop(dropped, None)
