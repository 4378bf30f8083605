// What other dials would change in a text, before anybody is asked.
import assert from 'node:assert/strict';
import test from 'node:test';

import './document.mjs';
import { ACCEPTANCE, FORCED, LLM, RATIO, SLM, bareToken } from '../../assets/page/lib/threshold.js';

const { changes } = await import('../../assets/page/stream/preview.js');

const token = (author, score, more = {}) => Object.assign(bareToken('x', author, score, 0.5), { [ACCEPTANCE]: 0, [RATIO]: null }, more);
const at = (tokens, threshold, acceptance = 0) => {
  const marks = { flip: [], draft: [], stale: [] };
  const { first } = changes({ tokens }, threshold, acceptance, (i, found) => {
    for (const [name, on] of Object.entries(found)) if (on) marks[name].push(i);
  });
  return { first, ...marks };
};
const TEXT = [token(SLM, 0.9), token(LLM, 0.2), token(SLM, 0.6), token(SLM, 0.8)];

test('at its own dials a text has no change', () => {
  assert.deepEqual(at(TEXT, 0.5), { first: Infinity, flip: [], draft: [], stale: [] });
});

test('decisions on the other side of the threshold flip, and what follows the first is not yet true', () => {
  assert.deepEqual(at(TEXT, 0.7), { first: 2, flip: [2], draft: [], stale: [3] });
  assert.deepEqual(at(TEXT, 0.1), { first: 1, flip: [1], draft: [], stale: [2, 3] });
});

test('a score at the threshold stays with the SLM', () => {
  assert.equal(at(TEXT, 0.6).first, Infinity);
});

test('a token that a visitor chose never flips', () => {
  assert.equal(at([token(SLM, 0.9, { [FORCED]: 1 })], 1.01).first, Infinity);
});

test('a text without scores has no threshold', () => {
  assert.equal(at([token(LLM, null), token(SLM, null)], 0.9).first, Infinity);
});

test('a draft that was taken back comes back where the LLM is asked for less, and not where it writes anyway', () => {
  const refused = [token(LLM, 0.9, { [RATIO]: 0.3, [ACCEPTANCE]: 0.5 })];
  assert.deepEqual(at(refused, 0.5, 0.5).flip, []);
  assert.deepEqual(at(refused, 0.5, 0.2).flip, [0]);
  assert.deepEqual(at(refused, 0.95, 0.2).flip, []);
});

test('a kept draft is taken back where more is asked of it', () => {
  const kept = [token(SLM, 0.9, { [RATIO]: 0.3, [ACCEPTANCE]: 0.2 })];
  assert.deepEqual(at(kept, 0.5, 0.3).flip, []);
  assert.deepEqual(at(kept, 0.5, 0.31).flip, [0]);
});

test('what the LLM has not read is a draft above acceptance 0, up to the first flip', () => {
  assert.deepEqual(at(TEXT, 0.7, 0.4).draft, [0]);
  assert.deepEqual(at(TEXT, 0.5, 0.4).draft, [0, 2, 3]);
});
