// A number field of gradio's that is emptied, or holds no number yet, keeps its last one: gradio is not told, which would
// take it for none, or for 0 on leaving. The field says so, and shows the number again on Enter and when it is left.
import { make, say } from './dom.js';

const lasts = new WeakMap(), notes = new WeakMap(), commas = new WeakSet();   // those with a point that was typed as a comma

// Gradio's, and the handles in Tune.
const isOurs = (node) => node.matches?.('.block input[type="number"]') && (!node.closest('.html-container') || node.closest('[data-handle]'));
const isWhole = ({ step }) => Number.isInteger(Number(step));

const note = (field, text) => {
  if (!notes.has(field)) {
    if (!text) return;
    notes.set(field, Object.assign(make('small', 'number-kept'), { role: 'status' }));
    (field.closest('.head, .tune-unit') ?? field).after(notes.get(field));
  }
  say(notes.get(field), text);
};

// Gradio writes a number that it heard of back, up to a frame later. Over "12." or "1e", which go on meanwhile, that would
// take the point away and put the caret in front.
const { get, set } = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value');
const guard = (field) => Object.defineProperty(field, 'value', {
  configurable: true,
  get,
  set(value) {
    const goesOn = field.matches(':focus') && (field.validity.badInput || field.value === String(value));
    if (!goesOn) set.call(field, value);
  },
});

const restore = (field) => {
  if (field.value !== '' || !lasts.has(field)) return;
  const wrong = field.validity.badInput;
  set.call(field, lasts.get(field));
  note(field, wrong ? `that is no number: still ${lasts.get(field)}` : '');
};

const hear = (type, heard) => document.addEventListener(type, (event) => { if (isOurs(event.target)) heard(event, event.target); }, true);

// In a field of whole numbers a comma before three digits groups thousands; it was a point until they were there.
const isGrouped = (field) => commas.has(field) && isWhole(field) && /^[1-9]\d*\.\d{3}$/.test(field.value);
const ungroup = (event, field) => {
  event.stopImmediatePropagation();
  commas.delete(field);
  field.value = field.value.replace('.', '');
  field.dispatchEvent(new Event('input', { bubbles: true }));   // anew, for those who have heard of the point
};

hear('focusin', (event, field) => {
  guard(field);
  commas.delete(field);
  if (field.value !== '') lasts.set(field, field.value);
});
hear('input', (event, field) => {
  if (isGrouped(field)) return ungroup(event, field);
  if (field.value !== '') {
    lasts.set(field, field.value);
    return note(field, '');
  }
  if (!lasts.has(field)) return;
  event.stopImmediatePropagation();
  note(field, field.validity.badInput ? '' : `empty: still ${lasts.get(field)}`);   // "-" may become a number yet
});
// A comma is a point. (Where the browser itself takes commas, the point means the same.)
hear('beforeinput', (event, field) => {
  const text = isWhole(field) && /^[1-9]\d{0,2}(,\d{3})+$/.test(event.data) ? event.data.replaceAll(',', '')
    : /^[^.,]*,[^.,]*$/.test(event.data ?? '') ? event.data.replace(',', '.') : null;
  if (text === null) return;
  if (event.data === ',') commas.add(field);
  event.preventDefault();
  document.execCommand('insertText', false, text);
});
hear('keydown', (event, field) => { if (event.key === 'Enter') restore(field); });
hear('focusout', (event, field) => restore(field));
