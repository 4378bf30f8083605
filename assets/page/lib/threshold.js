// Tokens, and who writes them: the one place of the page where scores and ratios are compared with the dials.

// A token as it travels; `app/stream/token_stream.py` says what each column holds.
export const [TEXT, AUTHOR, SCORE, THRESHOLD, SLM_FED, LLM_FED, MILLIS, SLM_TOP, LLM_TOP, FORCED, SLM_BITS, LLM_BITS,
  ACCEPTANCE, RATIO, TAKEN] = Array(15).keys();

// A token of which nothing else is known.
export const bareToken = (text, author, score, threshold) => [text, author, score, threshold, 0, 0, 0, [], [], 0];

export const SLM = 0, LLM = 1;   // authors

// As `role_at` is the engine's.
export const authorAt = (score, threshold) => (score < threshold ? LLM : SLM);

// As `keeps` is the engine's, for a drafted token that the LLM may not have read.
export const keptAt = (ratio, acceptance) => ratio === null || ratio >= acceptance;

// The SLM's, which the LLM has yet to read.
export const isDraft = (token, acceptance = token[ACCEPTANCE]) => token[AUTHOR] === SLM && acceptance > 0 && token[RATIO] === null && !token[FORCED];

// The LLM's in place of a draft that it did not keep.
export const isRefusal = (token) => token[AUTHOR] === LLM && typeof token[RATIO] === 'number';
