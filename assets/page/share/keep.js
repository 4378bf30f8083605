// Has the window keep its fields as they change, and its text as a trace when it has ended, or now and then while it grows.
import { listen } from '../lib/dom.js';
import { keepFields, keepTrace } from './storage.js';

const SOON = 500, REST = 10_000;   // milliseconds after the end of a text; between two readings of one that grows
const ENDS = ['done', 'stopped', 'failed'];

export const startKeep = ({ element, server }) => {
  let read = '', due = 0, timer = 0;   // what was read last, when more is due

  const keep = async (asked, key) => {
    try {
      const answer = await server.take({ ...asked, kind: 'json' });
      if (answer) keepTrace(answer);
    } catch {
      if (read === key) read = '';   // the server is away; a later look tries again
    }
  };

  listen(element, 'citer-fields', ({ detail }) => keepFields(detail));
  listen(element, 'citer-shown', ({ detail: { run, row, recorded, state, tokens } }) => {
    const over = ENDS.includes(state), key = `${run}/${row}/${tokens}/${state}`, now = performance.now();
    if (!run || recorded || !tokens || key === read || (!over && (state !== 'running' || now < due))) return;
    [read, due] = [key, now + REST];
    clearTimeout(timer);
    timer = setTimeout(() => keep({ run, row }, key), over ? SOON : 0);
  });
};
