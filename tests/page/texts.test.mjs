// The texts of a sweep, as they are read off the tree that the server sends.
import assert from 'node:assert/strict';
import test from 'node:test';

import './document.mjs';
import { AUTHOR, LLM, SLM, TEXT } from '../../assets/page/lib/threshold.js';

const { distinct, Texts } = await import('../../assets/page/sweep/texts.js');

// Three settings: at 0.5 the SLM writes both words, at 0.9 the LLM takes the second over from a draft, above 1 it writes all.
const MESSAGE = {
  state: 'done',
  cut: 0,
  nodes: [[-1, 'one', 0.95], [0, ' two', 0.7], [0, ' three', 0.92]],
  points: [[0.5, 0.2], [0.9, 0.2], [1.01, 1]],
  leaves: [1, 2, 2],
  replaced: [[2, 0.05]],
  figures: [[0, [[0.4, 0]]], [0.5, [[0.3, 0.5]]], [1, [[0, 1]]]],   // LLM share, and of each unit both models’ parts
  same: [[0, 0.7, 0, 0.3], [0.7, 0.95, 0.1, 1.01], [0.95, 2, 0, 1.01]],
};
const swept = (changed = {}) => {
  const texts = new Texts();
  texts.take({ ...MESSAGE, ...changed });
  return texts;
};

test('a row is the path to its leaf; the LLM has what its threshold gives it, and what it wrote in place of a draft', () => {
  const rows = [0, 1, 2].map((row) => swept().textOf(row));
  assert.deepEqual(rows.map(({ words }) => words), ['one two', 'one three', 'one three']);
  assert.deepEqual(rows[1].tokens.map((token) => token[TEXT]), ['one', ' three']);
  assert.deepEqual(rows.map(({ tokens }) => tokens.map((token) => token[AUTHOR])), [[SLM, SLM], [SLM, LLM], [LLM, LLM]]);
});

test('a setting has the text of the row in whose range it lies, up to and with its upper end', () => {
  const texts = swept(), row = (threshold) => texts.rowAt({ threshold, acceptance: 0.2 });
  assert.deepEqual([0.7, 0.71, 0.96].map(row), [0, 1, 2]);
  const exact = [[0, 0.7, 0.3], [0, 0.5, 0.31], [1, 0.7, 0.2]].map(([at, threshold, acceptance]) => texts.isExact(at, { threshold, acceptance }));
  assert.deepEqual(exact, [true, false, false]);
});

test('a text that is still written is found, but not known to be exact', () => {
  const texts = swept({ figures: [null, ...MESSAGE.figures.slice(1)], state: 'running' }), at = { threshold: 0.5, acceptance: 0.2 };
  assert.deepEqual([texts.rowAt(at), texts.isExact(0, at), texts.complete], [0, false, [1, 2]]);
});

test('the cheapest way to the LLM’s own text is among those that are it', () => {
  const texts = swept();
  assert.deepEqual([0, 1, 2].map((row) => texts.isLlmText(row)), [false, true, true]);
  assert.deepEqual([texts.cheapest, texts.cost(1)], [1, 0.8]);
});

test('labels have as few digits as tell them apart', () => {
  assert.deepEqual(distinct([0.1, 0.25]), ['0.10', '0.25']);
  assert.deepEqual(distinct([0.9991, 0.9992]), ['0.9991', '0.9992']);
});
