// What other dials would change in a text, before anybody is asked.
import assert from 'node:assert/strict';
import test from 'node:test';

import './document.mjs';
import { ACCEPTANCE, FORCED, LLM, RATIO, SLM } from '../../assets/page/lib/threshold.js';

const { changes } = await import('../../assets/page/stream/preview.js');

const token = (author, score, more = {}) => Object.assign(['x', author, score, 0.5, [], [], 0, 0, null, []], more);
const at = (tokens, threshold, acceptance = 0) => {
  const marks = { flip: [], draft: [], stale: [] };
  changes({ tokens }, threshold, acceptance, (i, found) => {
    for (const [name, on] of Object.entries(found)) if (on) marks[name].push(i);
  });
  return marks;
};
const TEXT = [token(SLM, 0.9), token(LLM, 0.2), token(SLM, 0.6), token(SLM, 0.8)];
const NONE = { flip: [], draft: [], stale: [] };

test('decisions on the other side of the threshold flip, and what follows the first is not yet true', () => {
  assert.deepEqual(at(TEXT, 0.5), NONE, 'its own dials');
  assert.deepEqual(at(TEXT, 0.7), { flip: [2], draft: [], stale: [3] });
  assert.deepEqual(at(TEXT, 0.1), { flip: [1], draft: [], stale: [2, 3] });
  assert.deepEqual(at(TEXT, 0.6), NONE, 'a score at the threshold stays with the SLM');
});

test('what a visitor chose never flips, nor what has no score', () => {
  assert.deepEqual(at([token(SLM, 0.9, { [FORCED]: 1 }), token(LLM, null), token(SLM, null)], 1.01), NONE);
});

test('a draft comes back where the LLM is asked for less and goes where more is asked, but not where the LLM writes', () => {
  const refused = [token(LLM, 0.9, { [RATIO]: 0.3, [ACCEPTANCE]: 0.5 })];
  const kept = [token(SLM, 0.9, { [RATIO]: 0.3, [ACCEPTANCE]: 0.2 })];
  const flips = [[refused, 0.5, 0.5], [refused, 0.5, 0.2], [refused, 0.95, 0.2], [kept, 0.5, 0.3], [kept, 0.5, 0.31]];
  assert.deepEqual(flips.map((asked) => at(...asked).flip.length), [0, 1, 0, 0, 1]);
});

test('what the LLM has not read is a draft above acceptance 0, up to the first flip', () => {
  assert.deepEqual(at(TEXT, 0.7, 0.4).draft, [0]);
  assert.deepEqual(at(TEXT, 0.5, 0.4).draft, [0, 2, 3]);
});
