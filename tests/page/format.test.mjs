// Figures and model text as a visitor reads them.
import assert from 'node:assert/strict';
import test from 'node:test';

import { apart, counted, percent, restPercent, spelled, visible } from '../../assets/page/lib/format.js';

test('shares that stand beside each other sum to 100', () => {
  const shown = (share) => [percent(share), restPercent(share)].map((text) => text.replace(/\s/g, ' '));
  assert.deepEqual(shown(0), ['0 %', '100 %']);
  assert.deepEqual(shown(0.034), ['3.4 %', '96.6 %']);
  assert.deepEqual(shown(0.0996), ['10 %', '90 %']);
  assert.deepEqual(shown(1), ['100 %', '0 %']);
});

test('hardly any is not none, and nearly all is not all', () => {
  assert.match(percent(0.0004), /<0\.1/);
  assert.match(restPercent(0.0004), />99\.9/);
  assert.match(restPercent(0.9996), /<1/);
});

test('a score and a threshold have as many digits as tell them apart', () => {
  assert.deepEqual(apart(0.25, 0.5), ['0.2500', '0.5000']);
  assert.deepEqual(apart(0.99971, 0.99972), ['0.99971', '0.99972']);
  assert.deepEqual(apart(0.5, 0.5), [0.5, 0.5]);
});

test('control characters are seen and do nothing', () => {
  assert.equal(visible('\x1b[31mred\x07\x7f'), '␛[31mred␇␡');
  assert.equal(visible('\u009b2J'), '\ufffd2J');
  assert.equal(visible('a\tb\nc'), 'a\tb\nc', 'white space stays');
});

test('no character that turns its neighbours round survives, and letters of either direction do', () => {
  for (const turn of ['\u202a', '\u202d', '\u202e', '\u2066', '\u2067', '\u2069']) assert.equal(visible(`a${turn}b`), 'a\ufffdb');
  assert.equal(visible('שלום 👩‍👩‍👧 e\u0301'), 'שלום 👩‍👩‍👧 e\u0301');
});

test('a token as a name of itself spells its white space', () => {
  assert.equal(spelled(' a\n\t'), '·a⏎⇥');
  assert.notEqual(spelled(''), '');
});

test('a count has its noun', () => {
  assert.deepEqual([0, 1, 2].map((count) => counted(count, 'token')), ['0 tokens', '1 token', '2 tokens']);
});
