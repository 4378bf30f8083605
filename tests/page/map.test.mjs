// The map's labels.
import assert from 'node:assert/strict';
import test from 'node:test';

import './document.mjs';

const { distinct } = await import('../../assets/page/sweep/map.js');

test('labels have as few digits as tell them apart', () => {
  assert.deepEqual(distinct([0.1, 0.25]), ['0.10', '0.25']);
  assert.deepEqual(distinct([0.9991, 0.9992]), ['0.9991', '0.9992']);
});
