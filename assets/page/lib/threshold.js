// Tokens, and who writes them. Only here the page compares scores and ratios with the dials.

// The columns of a token as the server sends it; `app/stream/token_stream.py` describes them.
export const [TEXT, AUTHOR, SCORE, THRESHOLD, SLM_TOP, LLM_TOP, FORCED, ACCEPTANCE, RATIO, TAKEN] = Array(10).keys();

export const SLM = 0, LLM = 1;   // authors

// The part of some tokens that the LLM wrote, by their authors.
export const llmShare = (authors) => authors.filter((author) => author === LLM).length / Math.max(1, authors.length);

// The engine's `role_at`.
export const authorAt = (score, threshold) => (score < threshold ? LLM : SLM);

// The engine's `keeps`, for a drafted token. The ratio is null until the LLM has read it.
export const keptAt = (ratio, acceptance) => ratio === null || ratio >= acceptance;

// Whether the SLM wrote the token, and the LLM has yet to read it.
export const isDraft = (token, acceptance = token[ACCEPTANCE]) => token[AUTHOR] === SLM && acceptance > 0 && token[RATIO] === null && !token[FORCED];

// Whether the LLM wrote the token in place of a draft that it did not keep.
export const isRefusal = (token) => token[AUTHOR] === LLM && typeof token[RATIO] === 'number';
