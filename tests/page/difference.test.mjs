// Which words of a text are not those of another.
import assert from 'node:assert/strict';
import test from 'node:test';

import { differing } from '../../assets/page/stream/difference.js';

// A capital is the LLM's.
const tokens = (text) => text.split(' ').filter(Boolean).map((word) => [word.toLowerCase(), Number(word !== word.toLowerCase())]);
const between = (old, next) => [...differing(tokens(old), tokens(next))].sort((a, b) => a - b);

test('a word differs that the other text has not there or has by another author', () => {
  for (const [old, next, expected] of [
    ['a b c', 'a x c', [1]],
    ['a b c d', 'a d', []],
    ['a d', 'a b c d', [1, 2]],
    ['the cat sat on the mat', 'the dog sat near the mat now', [1, 3, 6]],
    ['a b c', 'x B c', [0, 1]],
    ['', 'a b', [0, 1]],
    ['a b', '', []],
  ]) assert.deepEqual(between(old, next), expected, `from "${old}" to "${next}"`);
});

test('texts too long to compare differ between their common ends', () => {
  const many = (word) => Array(700).fill(word).join(' ');
  assert.equal(between(`a ${many('x')} z`, `a ${many('y')} z`).length, 700);
});
