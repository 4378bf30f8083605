// What a window keeps over a reload, and over a server that went away. It stays in the browser, in the storage of this window
// alone; a page that is opened anew begins with nothing.
import { listen } from '../lib/dom.js';

const FIELDS = 'fields', TEXT = 'text';

export const isReload = () => ['reload', 'back_forward'].includes(performance.getEntriesByType('navigation')[0]?.type);

export const keep = (name, text) => { try { sessionStorage.setItem(`citer-${name}`, text); } catch { /* full, or forbidden: it stays as it was */ } };

// Empty where there is nothing, and then nothing is kept any longer.
export const kept = (name) => {
  try {
    const text = isReload() ? sessionStorage.getItem(`citer-${name}`) : null;
    if (!text) sessionStorage.removeItem(`citer-${name}`);
    return text ?? '';
  } catch {
    return '';   // forbidden
  }
};

export const keptText = (name) => kept(name) || { __type__: 'update' };   // gradio's word for "as it is"

// The address without its tab, which is no other page.
export const search = () => {
  const query = new URLSearchParams(location.search);
  query.delete('tab');
  return query.toString();
};

export const keepFields = (values) => keep(FIELDS, JSON.stringify({ at: search(), text: location.hash, values }));
export const keepTrace = (json) => keep(TEXT, json);

// Another link brings fields of its own, and another text of a link is opened: only under the one that was there they are kept.
const read = () => {
  const [fields, trace] = [FIELDS, TEXT].map(kept);
  try {
    const { at, text } = fields ? JSON.parse(fields) : { at: search() };
    return at === search() && (!location.hash || (trace && text === location.hash)) ? [fields, trace] : ['', ''];
  } catch {
    return ['', ''];   // it is not what was kept
  }
};
const before = read();   // once, before the page keeps anything: the note about a link has to find the same

// The fields as JSON, and whether there is a text; and that text as a trace.
export const keptFields = () => [before[0], before[1] && 'kept'];
export const keptTrace = () => before[1];

// Opens the feed for that text.
export const startKept = () => { if (before[1]) document.dispatchEvent(new CustomEvent('citer-start')); };

// Whether that text came with the link in the address, which need not be opened again.
export const keptLink = () => location.hash !== '' && before[1] !== '';

// Has the window keep its fields as they change, and its text as a trace when it has ended, or now and then while it grows.
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
  listen(element, 'citer-shown', ({ detail: { run, recorded, state, tokens } }) => {
    const over = ENDS.includes(state), key = `${run}/${tokens}/${state}`, now = performance.now();
    if (!run || recorded || !tokens || key === read || (!over && (state !== 'running' || now < due))) return;
    [read, due] = [key, now + REST];
    keep({ run }, key);
  });
};
