// Has the window keep its fields as they change, and its text as a trace when it has ended, or now and then while it grows.
import { listen } from '../lib/dom.js';
import { keepFields, keepTrace } from './storage.js';

const REST = 10_000;   // milliseconds between two readings of a text that grows
const ENDS = ['done', 'stopped', 'failed'];

export const startKeep = ({ element, server }) => {
  let read = '', due = 0;   // what was read last, when more is due

  const keep = async (asked, key) => {
    try {
      const answer = await server.take({ ...asked, kind: 'json' });
      if (answer && read === key) keepTrace(answer);
    } catch {
      if (read === key) read = '';   // the server is away; a later look tries again
    }
  };

  listen(element, 'citer-fields', ({ detail }) => keepFields(detail));
  listen(element, 'citer-shown', ({ detail: { run, row, recorded, state, tokens } }) => {
    const over = ENDS.includes(state), key = `${run}/${row}/${tokens}/${state}`, now = performance.now();
    if (!run || recorded || !tokens || key === read || (!over && (state !== 'running' || now < due))) return;
    [read, due] = [key, now + REST];
    keep({ run, row }, key);
  });
};
