// What a text costs beside the large model alone writing as many tokens, where a token of the large model costs some tokens of
// the small one.
const DEAREST = 100, STEPS = 200;   // tokens of the small model, positions of the slider

export const ratioAt = (step) => DEAREST ** (step / STEPS);
export const stepAt = (ratio) => Math.round((STEPS * Math.log(Math.max(1, ratio))) / Math.log(DEAREST));

// The slider's choice: `unit` says what is counted (bytes, FLOPs, seconds, price), `ratio` what a token is worth, `ratios` what it is
// worth in each unit by itself. `prices` are of a million tokens: the small model reads, writes, the large one reads, writes.
export const PRICE = 3;
export const choice = { unit: 0, ratio: null, ratios: [], prices: [] };

const priced = ([slmRead, slmWritten, llmRead, llmWritten, read, written]) => {
  const [a, b, c, d] = choice.prices, alone = read * c + written * d;
  return alone > 0 ? [(slmRead * a + slmWritten * b) / alone, (llmRead * c + llmWritten * d) / alone] : null;
};

// A cost as a share of the large model's, from what the server tells (see `cost_parts` in `app/figures.py`); null where it is not
// known.
export const costOf = (parts) => {
  const { unit, ratio, ratios } = choice, own = ratios[unit], pair = parts && (unit === PRICE ? priced(parts[PRICE]) : parts[unit]);
  if (!pair) return null;
  const scaled = own && ratio ? ratio / own : 1;
  return pair[0] / scaled + pair[1];
};
