// The texts of a sweep, as they are read off the tree that the server sends.
import assert from 'node:assert/strict';
import test from 'node:test';

import './document.mjs';
import { AUTHOR, LLM, SLM, TEXT } from '../../assets/page/lib/threshold.js';

const { distinct, Texts } = await import('../../assets/page/sweep/texts.js');

// Three settings: at 0.5 the SLM writes both words, at 0.9 the LLM takes the second over from a draft, above 1 it writes all.
const MESSAGE = {
  over: 'threshold',
  state: 'done',
  nodes: [[-1, 'one', 0.95], [0, ' two', 0.7], [0, ' three', 0.92]],
  points: [[0.5, 0.2], [0.9, 0.2], [1.01, 1]],
  leaves: [1, 2, 2],
  replaced: [[2, 0.05]],
  figures: [[0, 0.4, 0.5, 0.5, 0.1], [0.5, 0.8, 0.9, 0.9, 0.6], [1, 1, 1, 1, 1]],
  same: [[0, 0.7, 0, 0.3], [0.7, 0.95, 0.1, 1.01], [0.95, 2, 0, 1.01]],
  meters: null,
};
const swept = (changed = {}) => {
  const texts = new Texts();
  texts.take({ ...MESSAGE, ...changed }, 0, true);
  return texts;
};
const authors = (texts, row) => texts.textOf(row).tokens.map((token) => token[AUTHOR]);

test('a row is the path to its leaf', () => {
  const texts = swept();
  assert.equal(texts.textOf(0).words, 'one two');
  assert.equal(texts.textOf(1).words, 'one three');
  assert.deepEqual(texts.textOf(1).tokens.map((token) => token[TEXT]), ['one', ' three']);
});

test('authors follow from score and threshold, and the LLM has what it wrote in place of a draft', () => {
  assert.deepEqual(authors(swept(), 0), [SLM, SLM]);
  assert.deepEqual(authors(swept(), 1), [SLM, LLM]);
  assert.deepEqual(authors(swept(), 2), [LLM, LLM]);
});

test('a setting has the text of the row in whose range it lies', () => {
  const texts = swept(), row = (threshold, acceptance = 0.2) => texts.rowAt({ threshold, acceptance });
  assert.equal(row(0.7), 0, 'the upper end belongs to it');
  assert.equal(row(0.71), 1);
  assert.equal(row(0.96), 2);
  assert.ok(texts.isExact(0, { threshold: 0.7, acceptance: 0.3 }));
  assert.ok(!texts.isExact(0, { threshold: 0.5, acceptance: 0.31 }));
  assert.ok(!texts.isExact(1, { threshold: 0.7, acceptance: 0.2 }), 'the lower end does not');
});

test('a text that is still written is found, but not known to be exact', () => {
  const texts = swept({ figures: [null, ...MESSAGE.figures.slice(1)], state: 'running' });
  assert.equal(texts.rowAt({ threshold: 0.5, acceptance: 0.2 }), 0);
  assert.ok(!texts.isExact(0, { threshold: 0.5, acceptance: 0.2 }));
  assert.deepEqual(texts.complete, [1, 2]);
});

test('the cheapest way to the LLM’s own text is among those that are it', () => {
  const texts = swept();
  assert.ok(texts.isLlmText(1) && !texts.isLlmText(0));
  assert.equal(texts.cheapest, 1);
  assert.deepEqual(texts.percents(1), { share: 50, cost: 80 });
});

test('labels have as few digits as tell them apart', () => {
  assert.deepEqual(distinct([0.1, 0.25]), ['0.10', '0.25']);
  assert.deepEqual(distinct([0.9991, 0.9992]), ['0.9991', '0.9992']);
});
