"""What a run leaves behind: one event per token, and the folds over events that make costs and traces."""

from engine.events.token_event import (
    MAX_THRESHOLD,
    Alternative,
    FinishReason,
    Revealed,
    Role,
    SettledEvents,
    TokenEvent,
    Verdict,
    charged,
    charged_reads,
    extend,
    fold_revealed,
    in_row,
    keeps,
    known,
    llm_passes,
    llm_share,
    llm_tokens,
    role_at,
    taken_back,
    tokens_read,
)  # fmt: skip

__all__ = [
    "MAX_THRESHOLD", "Alternative", "FinishReason", "Revealed", "Role", "SettledEvents", "TokenEvent", "Verdict",
    "charged", "charged_reads", "extend", "fold_revealed", "in_row", "keeps", "known", "llm_passes", "llm_share",
    "llm_tokens", "role_at", "taken_back", "tokens_read",
]  # fmt: skip
