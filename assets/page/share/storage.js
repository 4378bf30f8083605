// What a window keeps over a reload, and over a server that went away. It stays in the browser, in the storage of this window
// alone; a page that is opened anew begins with nothing.
const FIELDS = 'fields', TEXT = 'text';

const isReload = () => ['reload', 'back_forward'].includes(performance.getEntriesByType('navigation')[0]?.type);

export const keep = (name, text) => { try { sessionStorage.setItem(`citer-${name}`, text); } catch { /* full, or forbidden: it stays as it was */ } };

// Empty where there is nothing, and then nothing is kept any longer.
const kept = (name) => {
  try {
    const text = isReload() ? sessionStorage.getItem(`citer-${name}`) : null;
    if (!text) sessionStorage.removeItem(`citer-${name}`);
    return text ?? '';
  } catch {
    return '';   // forbidden
  }
};

export const keptText = (name) => kept(name) || { __type__: 'update' };   // gradio's word for "as it is"

export const keepFields = (values) => keep(FIELDS, JSON.stringify({ at: location.search, values }));
export const keepTrace = (json) => keep(TEXT, json);

// The fields as JSON, and the text on the page as a trace. Another link brings fields of its own, and one that carries a text
// brings that again.
export const keptWindow = () => {
  const [fields, trace] = [FIELDS, TEXT].map(kept);
  try {
    return location.hash || (fields && JSON.parse(fields).at !== location.search) ? ['', ''] : [fields, trace];
  } catch {
    return ['', ''];   // it is not what was kept
  }
};
