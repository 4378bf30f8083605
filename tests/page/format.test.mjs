// Figures and model text as a visitor reads them.
import assert from 'node:assert/strict';
import test from 'node:test';

import { apart, counted, distinct, percent, spelled, thresholdWords, visible } from '../../assets/page/lib/format.js';

test('a small share has a decimal, and hardly any is not none', () => {
  assert.deepEqual([0, 0.034, 0.0996, 1].map((share) => percent(share).replace(/\s/g, ' ')), ['0 %', '3.4 %', '10 %', '100 %']);
  assert.match(percent(0.0004), /<0\.1/);
});

test('a score and a threshold have as many digits as tell them apart, and a count has its noun', () => {
  assert.deepEqual(apart(0.25, 0.5), ['0.2500', '0.5000']);
  assert.deepEqual(apart(0.99971, 0.99972), ['0.99971', '0.99972']);
  assert.deepEqual(apart(0.5, 0.5), [0.5, 0.5]);
  assert.deepEqual(distinct([0.9991, 0.9992], [2, 3, 4, 5]), ['0.9991', '0.9992']);
  assert.deepEqual([0.5, 0.87654321, 0.99999297, 1].map(thresholdWords), ['0.5', '0.8765', '0.999993', '1']);
  assert.deepEqual([0, 1, 2].map((count) => counted(count, 'token')), ['0 tokens', '1 token', '2 tokens']);
});

test('characters that control or turn round are seen and do nothing; white space and letters of any direction stay', () => {
  assert.equal(visible('\x1b[31mred\x07\x7f'), '␛[31mred␇␡');
  assert.equal(visible('\u009b2J'), '\ufffd2J');
  for (const turn of ['\u202a', '\u202d', '\u202e', '\u2066', '\u2067', '\u2069']) assert.equal(visible(`a${turn}b`), 'a\ufffdb');
  for (const kept of ['a\tb\nc', 'שלום 👩‍👩‍👧 e\u0301']) assert.equal(visible(kept), kept);
  assert.equal(spelled(' a\n\t'), '·a⏎⇥');
  assert.notEqual(spelled(''), '');
});
