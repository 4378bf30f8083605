// A number field of gradio's that is emptied, or holds no number yet, keeps its last one: gradio is not told, which would
// take it for none, or for 0 on leaving. The field says so, and shows the number again on Enter and when it is left.
import { make, say } from './dom.js';

const lasts = new WeakMap(), notes = new WeakMap();

const isOurs = (node) => node.matches?.('.block input[type="number"]') && !node.closest('.html-container');

const note = (field, text) => {
  if (!notes.has(field)) {
    if (!text) return;
    notes.set(field, Object.assign(make('small', 'number-kept'), { role: 'status' }));
    (field.closest('.head') ?? field).after(notes.get(field));
  }
  say(notes.get(field), text);
};

const restore = (field) => {
  if (field.value !== '' || !lasts.has(field)) return;
  const wrong = field.validity.badInput;
  field.value = lasts.get(field);
  note(field, wrong ? `that is no number: still ${lasts.get(field)}` : '');
};

const hear = (type, heard) => document.addEventListener(type, (event) => { if (isOurs(event.target)) heard(event, event.target); }, true);

hear('focusin', (event, field) => { if (field.value !== '') lasts.set(field, field.value); });
hear('input', (event, field) => {
  if (field.value !== '') {
    lasts.set(field, field.value);
    return note(field, '');
  }
  if (!lasts.has(field)) return;
  event.stopImmediatePropagation();
  note(field, field.validity.badInput ? '' : `empty: still ${lasts.get(field)}`);   // "-" may become a number yet
});
// A comma is a point. (Where the browser itself takes commas, the point means the same.)
hear('beforeinput', (event) => {
  if (!/^[^.,]*,[^.,]*$/.test(event.data ?? '')) return;
  event.preventDefault();
  document.execCommand('insertText', false, event.data.replace(',', '.'));
});
hear('keydown', (event, field) => { if (event.key === 'Enter') restore(field); });
hear('focusout', (event, field) => restore(field));
