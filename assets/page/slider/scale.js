// Thresholds on the slider. A scale has 101 rising thresholds, one for each position.
import { FORCED, isRefusal, SCORE } from '../lib/threshold.js';

// The position of a threshold, a fraction if it lies between two of the scale.
export const placeOf = (scale, threshold) => {
  const after = scale.findIndex((stop) => stop >= threshold);
  if (after <= 0) return after < 0 ? scale.length - 1 : 0;
  const [low, high] = [scale[after - 1], scale[after]];
  return after - 1 + (threshold - low) / (high - low);
};

export const flipsOf = (tokens) => tokens.filter((token) => token[SCORE] !== null && !token[FORCED] && !isRefusal(token))
  .map((token) => token[SCORE]).sort((a, b) => a - b);

// The next position in a direction that changes the text, or an end if none does. Without scores it is the neighbour.
export const stepTo = (scale, place, by, scores) => {
  const last = scale.length - 1, below = (at) => scores.filter((score) => score < scale[at]).length;
  for (let at = place + by; at > 0 && at < last; at += by) if (below(at) !== below(place)) return at;
  return scores.length ? (by > 0 ? last : 0) : Math.min(last, Math.max(0, place + by));
};
