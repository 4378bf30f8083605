// The slider's positions, and what a price makes of a cost.
import assert from 'node:assert/strict';
import test from 'node:test';

import { choice, costOf, PRICE, ratioAt, stepAt } from '../../assets/page/slider/cost.js';
import { placeOf, stepTo } from '../../assets/page/slider/scale.js';
import { recommended, settingsText } from './tune.mjs';

const SCALE = [...Array(101).keys()].map((n) => (n === 100 ? 1.01 : n / 100));

test('a threshold stands between the positions beside it, and beyond the ends at an end', () => {
  assert.deepEqual([0, 0.25, 1.01, 2].map((threshold) => placeOf(SCALE, threshold)), [0, 25, 100, 100]);
  assert.ok(Math.abs(placeOf(SCALE, 0.255) - 25.5) < 1e-9);
});

test('a key goes to where another decision flips, and past the last of them to the end', () => {
  assert.equal(stepTo(SCALE, 10, 1, [0.305]), 31);
  assert.equal(stepTo(SCALE, 31, -1, [0.305]), 30);
  assert.deepEqual([stepTo(SCALE, 31, 1, [0.305]), stepTo(SCALE, 30, -1, [0.305])], [100, 0]);
  assert.equal(stepTo(SCALE, 10, 1, []), 11, 'without scores one position');
});

test('the price of a token scales the small model’s part; an unknown cost stays unknown', () => {
  Object.assign(choice, { unit: 0, ratio: 3, ratios: [3, null, null, 10] });
  assert.equal(costOf([[0.2, 0.3]]), 0.5);
  choice.ratio = 6;
  assert.ok(Math.abs(costOf([[0.2, 0.3]]) - 0.4) < 1e-9);
  assert.equal(costOf([null]), null);
  Object.assign(choice, { unit: PRICE, ratio: 10, prices: [1, 2, 10, 20] });
  assert.equal(costOf([null, null, null, [10, 20, 4, 3, 10, 20]]), 50 / 500 + 100 / 500, 'tokens that are read and written have their own prices');
  for (const ratio of [1, 3.1, 100]) assert.ok(Math.abs(ratioAt(stepAt(ratio)) - ratio) / ratio < 0.02);
});

test('the cheapest setting that is hardly worse than the large model is recommended, as settings of a file', () => {
  const points = [[0, 0.3, 0, 0, 0, 10], [0.6, 0.6, 0, 0, 0.2, 20], [0.9, 0.61, 0, 0, 0.4, 30], [1.01, 0.62, 0, 0, 1, 50]];
  assert.equal(recommended(points), 1);
  const about = { policy: 'router', acceptance: 0.3, max_draft: 8 };
  assert.equal(settingsText({ about }, points, 1), 'CITER_SETTING="router < 0.6 @ 0.3/8"\n');
  assert.match(settingsText({ about }, points, 3), /CITER_SETTING="llm"/);
});
