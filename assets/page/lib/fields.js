// Fields are checked where they stand. An empty prompt is refused before anything starts. A wrong number is refused when its field is
// left, or at Enter: a note says what the field takes, and the last good number comes back. Gradio never hears of a wrong number,
// since it would read an empty field as 0.
import { make, say } from './dom.js';

const lastGood = new WeakMap(), notes = new WeakMap();

const isChecked = (node) => node.matches?.('.block input[type="number"]') && !node.closest('.html-container');

const note = (field, text) => {
  if (!text && !notes.has(field)) return;
  if (!notes.has(field)) {
    notes.set(field, Object.assign(make('small', 'field-note'), { role: 'alert' }));
    (field.closest('.head, .input-container') ?? field).after(notes.get(field));
  }
  say(notes.get(field), text);
};

const isWhole = ({ step }) => Number.isInteger(Number(step));   // a field with a fractional step also takes numbers between the steps
const rangeOf = ({ min, max, step }) => {
  const kind = isWhole({ step }) ? 'a whole number' : 'a number', [low, high] = [min, max].map((end) => Number(end).toLocaleString('en'));
  return min && max ? `${kind} from ${low} to ${high}` : min ? `${kind} of at least ${low}` : kind;
};

// Gradio writes a number that it heard of back into the field, up to a frame later. The visitor may be at "12." or "1e" by then:
// the old number would take the point away and move the caret to the front.
const { get, set } = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value');
const guard = (field) => Object.defineProperty(field, 'value', {
  configurable: true,
  get,
  set(value) {
    const isTyping = field.matches(':focus') && (field.validity.badInput || field.value === String(value));
    if (isTyping) return;
    if (field.value !== String(value)) note(field, '');   // the slider has changed it since
    set.call(field, value);
  },
});

const isGood = (field) => {
  const { badInput, rangeUnderflow, rangeOverflow, stepMismatch } = field.validity;
  return field.value !== '' && !badInput && !rangeUnderflow && !rangeOverflow && !(stepMismatch && isWhole(field));
};

const settle = (field) => {
  if (isGood(field) || !lastGood.has(field)) return;
  const { value } = field, wrong = value === '' ? 'No number' : `${value} is not allowed`;
  set.call(field, lastGood.get(field));
  note(field, `${wrong}: ${rangeOf(field)}. Kept ${lastGood.get(field)}.`);
};

const onNumber = (type, handle) => document.addEventListener(type, (event) => { if (isChecked(event.target)) handle(event.target, event); }, true);

onNumber('focusin', (field) => {
  guard(field);
  if (isGood(field)) lastGood.set(field, field.value);
});
onNumber('input', (field, event) => {
  note(field, '');
  if (isGood(field)) lastGood.set(field, field.value);
  else if (lastGood.has(field)) event.stopImmediatePropagation();
});
onNumber('keydown', (field, { key }) => { if (key === 'Enter') settle(field); });
onNumber('focusout', settle);

const PROMPTS = { '#generate, .map-open, .sweep-go': '#prompt textarea', '#compare-start': '#compare-prompt textarea', '#tune-run': '#tune-prompts textarea' };
document.addEventListener('click', (event) => {
  const starts = Object.keys(PROMPTS).find((button) => event.target.closest?.(button)), box = starts && document.querySelector(PROMPTS[starts]);
  if (!box || box.value.trim() || event.target.closest('[aria-expanded="true"]')) return;
  event.stopImmediatePropagation();
  note(box, 'The prompt is empty: write one first.');
  box.focus();
}, true);
document.addEventListener('input', ({ target }) => { if (target.matches?.('textarea')) note(target, ''); });
