// An empty prompt is told of where it stands, before anything is asked for. A number that will not do is refused at its field when that is left, or at Enter: the field says which and what it takes, and shows
// the last good one again: gradio would take an empty field for 0, and is not told of what will not do.
import { make, say } from './dom.js';

const lasts = new WeakMap(), notes = new WeakMap();

const isOurs = (node) => node.matches?.('.block input[type="number"]') && !node.closest('.html-container');

const note = (field, text) => {
  if (!text && !notes.has(field)) return;
  if (!notes.has(field)) {
    notes.set(field, Object.assign(make('small', 'field-note'), { role: 'alert' }));
    (field.closest('.head, .input-container') ?? field).after(notes.get(field));
  }
  say(notes.get(field), text);
};

const isWhole = ({ step }) => Number.isInteger(Number(step));   // other steps are coarser than what may be typed
const rangeOf = ({ min, max, step }) => [isWhole({ step }) ? 'a whole number' : 'a number', min && max ? `from ${Number(min).toLocaleString('en')} to ${Number(max).toLocaleString('en')}`
  : min ? `of at least ${Number(min).toLocaleString('en')}` : ''].filter(Boolean).join(' ');

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

const isGood = (field) => {
  const { badInput, rangeUnderflow, rangeOverflow, stepMismatch } = field.validity;
  return field.value !== '' && !badInput && !rangeUnderflow && !rangeOverflow && !(stepMismatch && isWhole(field));
};

const settle = (field) => {
  if (isGood(field) || !lasts.has(field)) return;
  const { value, validity } = field, wrong = validity.badInput ? 'That is no number' : value === '' ? 'Empty' : `${value} will not do`;
  set.call(field, lasts.get(field));
  note(field, `${wrong}: ${rangeOf(field)}. Still ${lasts.get(field)}.`);
};

const hear = (type, heard) => document.addEventListener(type, (event) => { if (isOurs(event.target)) heard(event, event.target); }, true);

hear('focusin', (event, field) => {
  guard(field);
  if (isGood(field)) lasts.set(field, field.value);
});
hear('input', (event, field) => {
  note(field, '');
  if (isGood(field)) lasts.set(field, field.value);
  else if (lasts.has(field)) event.stopImmediatePropagation();
});
hear('keydown', (event, field) => { if (event.key === 'Enter') settle(field); });
hear('focusout', (event, field) => settle(field));

const PROMPTS = { '#generate, .map-open, .sweep-go': '#prompt textarea', '#compare-start': '#compare-prompt textarea', '#tune-run': '#tune-prompts textarea' };
document.addEventListener('click', (event) => {
  const starts = Object.keys(PROMPTS).find((button) => event.target.closest?.(button)), box = starts && document.querySelector(PROMPTS[starts]);
  if (!box || box.value.trim() || event.target.closest('[aria-expanded="true"]')) return;
  event.stopImmediatePropagation();
  note(box, 'The prompt is empty: write one first.');
  box.focus();
}, true);
document.addEventListener('input', ({ target }) => { if (target.matches?.('textarea')) note(target, ''); });
