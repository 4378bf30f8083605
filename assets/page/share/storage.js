// What a window keeps for a reload, or for a new start of the server. It is in the window's own sessionStorage, so a new window has
// nothing of it.
import { isOver } from '../lib/channel.js';
import { announce, listen } from '../lib/dom.js';

const FIELDS = 'fields', TEXT = 'text';

export const isReload = () => ['reload', 'back_forward'].includes(performance.getEntriesByType('navigation')[0]?.type);

export const keep = (name, text) => { try { sessionStorage.setItem(`citer-${name}`, text); } catch { /* full, or forbidden */ } };

// Returns '' if there is nothing, or if this is a new page: then the stored text is removed.
export const kept = (name) => {
  try {
    const text = isReload() ? sessionStorage.getItem(`citer-${name}`) : null;
    if (!text) sessionStorage.removeItem(`citer-${name}`);
    return text ?? '';
  } catch {
    return '';   // storage is forbidden
  }
};

export const keptText = (name) => kept(name) || { __type__: 'update' };   // gradio's word for "as it is"

// The address's query without its tab: all tabs are one page.
export const search = () => {
  const query = new URLSearchParams(location.search);
  query.delete('tab');
  return query.toString();
};

// Reads the fields and the text. They come back only under the same link, since another link brings its own fields or its own text.
const read = () => {
  const [json, text] = [FIELDS, TEXT].map(kept);
  try {
    const { at, text: link } = json ? JSON.parse(json) : { at: search() };
    return at === search() && (!location.hash || (text && link === location.hash)) ? [json, text] : ['', ''];
  } catch {
    return ['', ''];   // not JSON
  }
};
const [fields, trace] = read();   // before this page stores anything

// For Python: the fields as JSON, and whether there is a text.
export const keptFields = () => [fields, trace && 'kept'];
export const keptTrace = () => trace;

export const startKept = () => { if (trace) announce('citer-start'); };

// Whether the stored text is that of the link in the address, which need not be opened again.
export const keptLink = () => location.hash !== '' && trace !== '';

const REST = 10_000;   // milliseconds between two readings of a growing text

// Stores the fields at each change, and the text as a trace at its end, and now and then while it grows.
export const startKeep = ({ element, server }) => {
  let newest = '', due = 0;   // the state that was read last; time of the next reading

  const keepTrace = async (run, key) => {
    try {
      const answer = await server.take({ run, kind: 'json' });
      if (answer && newest === key) keep(TEXT, answer);
    } catch {
      if (newest === key) newest = '';   // the server is away; a later look tries again
    }
  };

  listen(element, 'citer-fields', ({ detail }) => keep(FIELDS, JSON.stringify({ at: search(), text: location.hash, values: detail })));
  listen(element, 'citer-shown', ({ detail: { run, recorded, state, tokens } }) => {
    const over = isOver(state), key = `${run}/${tokens}/${state}`, now = performance.now();
    if (!run || recorded || !tokens || key === newest || (!over && (state !== 'running' || now < due))) return;
    [newest, due] = [key, now + REST];
    keepTrace(run, key);
  });
};
