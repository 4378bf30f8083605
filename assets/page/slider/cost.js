// What a text costs beside the large model alone, where a token of the large model costs some tokens of the small one.
const AFTER = ['of what it would read alone', 'of what it would compute alone', 'of the time it would take alone', 'of its price alone'];

export const DEAREST = 100;   // tokens of the small model
const STEPS = 200;

export const ratioAt = (step) => DEAREST ** (step / STEPS);
export const stepAt = (ratio) => Math.round((STEPS * Math.log(Math.max(1, ratio))) / Math.log(DEAREST));

// The slider's choice: `unit` says what is counted (see `UNITS` in `app/figures.py`), `ratio` what a token is worth.
export const choice = { unit: 0, ratio: null, ratios: [] };

// A cost as a share of the large model's, from [the small model's part, the large one's part] in every unit; null where
// it is not known.
export const costOf = (parts) => {
  const { unit, ratio, ratios } = choice, own = ratios[unit], pair = parts?.[unit];
  if (!pair) return null;
  const scaled = own && ratio ? ratio / own : 1;
  return pair[0] / scaled + pair[1];
};

export const unitWords = () => AFTER[choice.unit];
