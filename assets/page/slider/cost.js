// The cost of a text, as a share of what the large model alone costs for as many tokens, in Compare for its own text.
const DEAREST = 100, STEPS = 200;   // highest price of a large token, in small ones; positions of the slider

export const ratioAt = (step) => DEAREST ** (step / STEPS);
export const stepAt = (ratio) => Math.round((STEPS * Math.log(Math.max(1, ratio))) / Math.log(DEAREST));

// What the visitor has chosen. `unit` counts bytes, FLOPs, seconds or price. `ratio` is the price of a large token in small ones, and
// `ratios` has the pair's own price in each unit. `prices` are for a million tokens: small model reads, writes, large model reads, writes.
export const UNITS = ['bytes', 'FLOPs', 'modelled seconds', 'price'], PRICE = UNITS.indexOf('price');
export const choice = { unit: 0, ratio: null, ratios: [], prices: [] };

const priced = ([slmRead, slmWritten, llmRead, llmWritten, read, written]) => {
  const [a, b, c, d] = choice.prices, alone = read * c + written * d;
  return alone > 0 ? [(slmRead * a + slmWritten * b) / alone, (llmRead * c + llmWritten * d) / alone] : null;
};

// `parts` come from the server (`cost_parts` in `app/figures.py`). Returns null if the cost is not known.
export const costOf = (parts) => {
  const { unit, ratio, ratios } = choice, own = ratios[unit], pair = parts && (unit === PRICE ? priced(parts[PRICE]) : parts[unit]);
  if (!pair) return null;
  const scaled = own && ratio ? ratio / own : 1;
  return pair[0] / scaled + pair[1];
};
