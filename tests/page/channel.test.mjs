// What a panel does with the messages about a job.
import assert from 'node:assert/strict';
import test from 'node:test';

import './document.mjs';

const { openChannel } = await import('../../assets/page/lib/channel.js');

test('a late message of an older job is not drawn, and only a job that is there whole is not asked for again', () => {
  const drawn = [], ended = [];
  openChannel({ element: { isConnected: true }, props: { panel: 'stream' }, trigger: (name) => ended.push(name), watch() {} }, ({ n, cut }, fresh) => drawn.push([n, cut, fresh])).receive();
  const send = (n, cut, count, state) => document.dispatchEvent(new CustomEvent('citer-news', {
    detail: { panel: 'stream', data: JSON.stringify({ n, cut, count, state }) },
  }));
  const have = () => {
    const detail = {};
    document.dispatchEvent(new CustomEvent('citer-have', { detail }));
    return detail.stream;
  };
  send(1, 0, 3, 'running');
  assert.equal(have(), undefined);
  send(1, 2, 2, 'done');
  assert.equal(have(), 1);
  send(2, 0, 0, 'waiting');   // nothing of it is there
  assert.equal(have(), 1);
  send(1, 0, 4, 'done');
  send(2, 1, 0, 'running');
  assert.equal(have(), undefined);
  assert.deepEqual([drawn, ended], [[[1, 0, true], [1, 2, false], [2, 0, true], [2, 1, true]], ['ended']]);
});
