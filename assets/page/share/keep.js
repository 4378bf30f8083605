// What a window has is kept in it over a reload, and over a server that went away: its fields, and its text as a trace. It stays in
// the browser, in the storage of this window alone; a page that is opened anew begins with nothing. `app/share/buttons.py` puts it back.
import { listen } from '../lib/dom.js';

const FIELDS = 'citer-fields', TEXT = 'citer-text';
const SOON = 500, REST = 10_000;   // milliseconds after the end of a text; between two readings of one that grows
const ENDS = ['done', 'stopped'];

const write = (key, text) => { try { sessionStorage.setItem(key, text); } catch { /* full, or forbidden: it stays as it was */ } };
const isReload = () => ['reload', 'back_forward'].includes(performance.getEntriesByType('navigation')[0]?.type);

export const startKeep = ({ element, server }) => {
  let read = '', due = 0, timer = 0;   // what was read last, when more is due

  const keep = async (asked, key) => {
    try {
      const answer = await server.take({ ...asked, kind: 'json' });
      if (answer) write(TEXT, JSON.parse(answer).text);
    } catch {
      if (read === key) read = '';   // the server is away; a later look tries again
    }
  };

  if (!isReload()) try { for (const key of [FIELDS, TEXT]) sessionStorage.removeItem(key); } catch { /* forbidden */ }
  listen(element, 'citer-fields', ({ detail }) => write(FIELDS, JSON.stringify({ at: location.search, values: detail })));
  listen(element, 'citer-shown', ({ detail: { run, row, recorded, state, tokens } }) => {
    const over = ENDS.includes(state), key = `${run}/${row}/${tokens}/${state}`, now = performance.now();
    if (!run || recorded || !tokens || key === read || (!over && (state !== 'running' || now < due))) return;
    [read, due] = [key, now + REST];
    clearTimeout(timer);
    timer = setTimeout(() => keep({ run, row }, key), over ? SOON : 0);
  });
};
