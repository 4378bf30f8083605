// What a panel does with the messages of a text.
import assert from 'node:assert/strict';
import test from 'node:test';

import './document.mjs';

const { openChannel } = await import('../../assets/page/lib/channel.js');

test('a message that leaves a gap, be it of one item, is not drawn, and the feed is opened anew', () => {
  const drawn = [];
  let missed = 0;
  document.addEventListener('citer-missed', () => { missed += 1; });
  const element = { isConnected: true };
  openChannel({ element, props: { panel: 'stream' }, trigger() {}, watch() {} }, ({ from }) => drawn.push(from)).receive();
  const send = (from, count) => document.dispatchEvent(new CustomEvent('citer-news', {
    detail: { panel: 'stream', data: JSON.stringify({ n: 1, from, count, state: 'running' }) },
  }));
  send(0, 3);
  send(4, 2);
  assert.deepEqual([drawn, missed], [[0], 1]);
  send(3, 3);
  assert.deepEqual([drawn, missed], [[0, 3], 1]);
});
