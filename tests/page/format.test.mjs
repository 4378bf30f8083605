// Figures and model text as a visitor reads them.
import assert from 'node:assert/strict';
import test from 'node:test';

import { apart, counted, percent, restPercent, spelled, visible } from '../../assets/page/lib/format.js';

test('shares beside each other sum to 100, hardly any is not none, and nearly all is not all', () => {
  const shown = (share) => [percent(share), restPercent(share)].map((text) => text.replace(/\s/g, ' '));
  assert.deepEqual([0, 0.034, 0.0996, 1].map(shown), [['0 %', '100 %'], ['3.4 %', '96.6 %'], ['10 %', '90 %'], ['100 %', '0 %']]);
  assert.match(percent(0.0004), /<0\.1/);
  assert.match(restPercent(0.0004), />99\.9/);
  assert.match(restPercent(0.9996), /<1/);
});

test('a score and a threshold have as many digits as tell them apart, and a count has its noun', () => {
  assert.deepEqual(apart(0.25, 0.5), ['0.2500', '0.5000']);
  assert.deepEqual(apart(0.99971, 0.99972), ['0.99971', '0.99972']);
  assert.deepEqual(apart(0.5, 0.5), [0.5, 0.5]);
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
