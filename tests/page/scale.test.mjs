// How the threshold's track is spaced.
import assert from 'node:assert/strict';
import test from 'node:test';

import { FORCED, RATIO, bareToken, LLM, SLM } from '../../assets/page/lib/threshold.js';
import { below, even, placeAt, scaleOfCurve, scaleOfRows, scaleOfText, stopAt, stopBeside } from '../../assets/page/points/scale.js';

const TOP = 1.01;
const scored = (...scores) => scores.map((score) => bareToken('x', score < 0.5 ? LLM : SLM, score, 0.5));
const text = scaleOfText(scored(0.9, 0.1, 0.5, 0.3), TOP);

test('a text has a stop wherever another decision flips, and one at each end', () => {
  assert.deepEqual(text.stops.map(([, place]) => place), [0, 1, 2, 3, 4]);
  assert.deepEqual([text.stops[0][0], text.stops.at(-1)[0]], [0, TOP]);
  for (const [threshold, place] of text.stops) assert.equal(below(text, threshold), place);
  assert.deepEqual(scaleOfText(scored(0.2, 0.2, 0.7), TOP).stops.map(([, place]) => place), [0, 2, 3], 'equal scores flip together');
  assert.equal(below(text, stopAt(text, 0.5)), 2, 'half way half of the scores lie below');
  assert.equal(placeAt(text, stopAt(text, 0.25)), 0.25);
  assert.deepEqual([stopAt(text, 0), stopAt(text, 1)], [0, TOP]);
});

test('what the threshold did not decide does not count, and nothing decided is no scale', () => {
  const forced = Object.assign(bareToken('x', LLM, 0.2, 0.5), { [FORCED]: 1 });
  const refused = Object.assign(bareToken('x', LLM, 0.6, 0.5), { [RATIO]: 0.1 });
  assert.equal(scaleOfText([forced, refused, bareToken('x', SLM, null, 0.5)], TOP), null);
  assert.equal(scaleOfText([forced, ...scored(0.3)], TOP).scores.length, 1);
});

test('a step leads one flip on and back again, also from between two stops, and never beyond an end', () => {
  const [, first, second] = text.stops.map(([threshold]) => threshold);
  assert.equal(stopBeside(text, first, 1), second);
  assert.equal(stopBeside(text, second, -1), first);
  for (const step of [1, -1]) assert.equal(below(text, stopBeside(text, 0.35, step)), below(text, 0.35) + step);
  const ends = [[0, -1], [0.5, -Infinity], [TOP, 1], [0.5, Infinity]].map((asked) => stopBeside(text, ...asked));
  assert.deepEqual(ends, [0, 0, TOP, TOP]);
});

test('a threshold between two rows of a sweep stands between their places', () => {
  const rows = scaleOfRows([0, 0.9, 0.99, 1.01]);
  assert.ok(Math.abs(placeAt(rows, 0.945) - 0.5) < 1e-9);
  assert.deepEqual([stopBeside(rows, 0.945, -1), stopBeside(rows, 0.945, 1), placeAt(rows, 2)], [0.9, 0.99, 1]);
});

test('a measured curve is spaced by the share of the LLM where that rises; with nothing known the track is even', () => {
  const curve = scaleOfCurve([[0, 0], [0.6, 0.1], [0.9, 0.2], [1, 1]], TOP);
  assert.ok(Math.abs(placeAt(curve, 0.9) - 0.2) < 0.02);
  assert.ok(Math.abs(stopAt(curve, 0.1) - 0.6) < 0.05);
  for (const axis of [0, 1]) assert.ok(curve.stops.every((stop, i) => !i || stop[axis] > curve.stops[i - 1][axis]));
  assert.equal(scaleOfCurve([[0, 0], [1, 0]], TOP), null);
  assert.deepEqual([placeAt(even(TOP), 0.25), stopAt(even(TOP), 1)], [0.25, TOP]);
});
