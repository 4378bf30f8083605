"""Gradio's blocks, with every fault of an event told in a few words, and none of what a visitor sent in the log.

Gradio prints a traceback whose message may hold all that was sent, and gives back a value that no field can have.
"""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr

from app.components import refusal
from engine import EngineError, InvalidRequest
from engine.errors import log_fault, shown

_LONGEST = 300  # characters of a fault that is gradio's
_TOO_FEW = "receive enough input values"  # gradio's words to who calls an endpoint without all its values

logger = logging.getLogger(__name__)


class PageBlocks(gr.Blocks):
    """Blocks whose events fail with an error for the visitor, whatever happened."""

    async def preprocess_data(self, *args: Any, **options: Any) -> Any:
        """See `gr.Blocks`: what no field can hold is the visitor's fault, not the server's."""
        try:
            return await super().preprocess_data(*args, **options)
        except (EngineError, gr.Error):
            raise
        except Exception as error:
            if _TOO_FEW in str(error):
                raise InvalidRequest(shown(str(error), limit=_LONGEST)) from None
            raise InvalidRequest("The page's fields cannot hold what was sent for them.") from None

    async def process_api(self, *args: Any, **options: Any) -> dict[str, Any]:
        """See `gr.Blocks`: checks what was sent, calls the handler, makes the answer."""
        try:
            return await super().process_api(*args, **options)
        except gr.Error as error:
            if not error.print_exception:  # ours, see `refusal`
                raise
            raise refusal(shown(str(error.message), limit=_LONGEST)) from None
        except EngineError as error:
            raise refusal(error) from None
        except Exception as error:
            log_fault(logger, "an event failed", error)
            raise refusal("The page's server failed at this; its log says where.") from None
