"""What speculative decoding is charged (Leviathan et al., ICML 2023): the rival of routing, in the engine's own loop.

There it is SLM confidence with acceptance 1 and drafts of one length. It is lossless, and a router is worth having only
where it beats that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.events import Role, TokenEvent


def as_published(events: Sequence[TokenEvent], max_draft: int) -> list[TokenEvent]:
    """A text's events, charged as the published algorithm is: after a full draft the LLM adds a token by itself.

    The engine lets the SLM draft that token, too, since below acceptance 1 it may be kept. Text and passes of the LLM
    are the same. Here the SLM's last pass over each full draft is left out, and what it would have read is read in the
    next one. Otherwise the rival would be charged for more than it needs.
    """
    charged: list[TokenEvent] = []
    owed = 0  # tokens that the SLM has not read, as its pass over them was left out
    for event in events:
        drafts = [*event.taken_back, event] if event.role is Role.SLM else list(event.taken_back)
        full = event.llm_fed > 0 and len(event.verdicts) + len(drafts) == max_draft > 1
        paid: list[TokenEvent] = []
        for each in (*event.taken_back, event):
            if full and each is drafts[-1]:
                owed += each.slm_fed if len(drafts) == 1 else 0  # else it read a draft that is taken back with it
                paid.append(replace(each, slm_fed=0, slm_head=False))
            elif each.slm_fed:
                paid.append(replace(each, slm_fed=each.slm_fed + owed))
                owed = 0
            else:
                paid.append(each)
        charged.append(replace(paid[-1], taken_back=tuple(paid[:-1])))
    return charged
