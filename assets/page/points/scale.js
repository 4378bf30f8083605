// How the threshold's track is spaced. A scale has stops, [threshold, place], both rising: places are what is seen of the
// track, and the dial goes from stop to stop. That of a text has its scores, too. Pure functions.
import { FORCED, isRefusal, SCORE } from '../lib/threshold.js';

const ROUNDING = 6e-8;   // of a score with seven decimals

// The threshold of fewest decimals above one score and at most another; null where seven do not tell them apart. As
// `simplest` is the server's.
export const between = (low, high) => {
  for (let digits = 1; digits <= 7; digits++) {
    const value = high < 1 ? Math.floor((high - ROUNDING) * 10 ** digits) / 10 ** digits : 1;
    if (value > low + ROUNDING) return value;
  }
  return null;
};

// Of a text: a stop wherever another of its decisions flips, its place the number of tokens below. Null where nothing
// was scored.
export const scaleOfText = (tokens, top) => {
  const decided = tokens.filter((token) => token[SCORE] !== null && !token[FORCED] && !isRefusal(token));
  const scores = decided.map((token) => token[SCORE]).sort((a, b) => a - b);
  if (!scores.length) return null;
  const stops = [[0, 0]];
  for (let below = 1; below < scores.length; below++) {
    const threshold = between(scores[below - 1], scores[below]);
    if (threshold !== null && threshold > stops.at(-1)[0]) stops.push([threshold, below]);
  }
  return { stops: [...stops, [top, scores.length]], scores };
};

// Of what was swept: its thresholds, evenly.
export const scaleOfRows = (thresholds) => ({ stops: thresholds.map((threshold, row) => [threshold, row]) });

// Of a measured curve, [threshold, share] rising in both: a stop at every percent of the LLM's share.
export const scaleOfCurve = (curve, top) => {
  const stops = [[0, 0]];
  for (let percent = 1; percent < 100; percent++) {
    const after = curve.findIndex(([, share]) => share >= percent / 100), [a, b] = [curve[after - 1], curve[after]];
    if (after < 1) continue;
    const threshold = a[0] + ((b[0] - a[0]) * (percent / 100 - a[1])) / (b[1] - a[1]);
    const [last] = stops.at(-1), short = between(last, Math.min(threshold, 1));
    if (short !== null && short < top) stops.push([short, percent]);
  }
  return stops.length > 10 ? { stops: [...stops, [top, 100]] } : null;
};

export const even = (top) => ({ stops: [...Array(101).keys()].map((n) => [n === 100 ? top : n / 100, n]) });

// How many of a text's scores are below a threshold.
export const below = ({ scores }, threshold) => scores.filter((score) => score < threshold).length;

const end = ({ stops }) => stops.at(-1)[1];

// Where on the track a threshold stands, from 0 to 1.
export const placeAt = (scale, threshold) => {
  if (scale.scores) return below(scale, threshold) / end(scale);
  const { stops } = scale, after = stops.findIndex(([stop]) => stop > threshold);
  if (after <= 0) return after < 0 ? 1 : 0;
  const [[low, from], [high, to]] = [stops[after - 1], stops[after]];
  return (from + ((to - from) * (threshold - low)) / (high - low)) / end(scale);
};

// The threshold of the stop nearest to a place.
export const stopAt = (scale, place) => {
  const off = ([, at]) => Math.abs(at - place * end(scale));
  return scale.stops.reduce((best, stop) => (off(stop) < off(best) ? stop : best))[0];
};

// The threshold so many stops away from one, which may lie between two; beyond the ends the last one. Of a text's stops those
// count at which another decision flips.
export const stopBeside = (scale, threshold, by) => {
  const { stops, scores } = scale, at = scores ? below(scale, threshold) : null;
  const here = stops.findLastIndex(([stop, place]) => (scores ? place <= at : stop <= threshold));
  const between = !scores && by < 0 && stops[here]?.[0] !== threshold;
  return stops[Math.min(Math.max(here + by + between, 0), stops.length - 1)][0];
};
