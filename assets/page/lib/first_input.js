// Gradio draws what is in a tab or an accordion when it is opened first, and a frame later sets each field there to its
// starting value again (6.31, `render_previously_invisible_children`): what a visitor has entered by then would be lost.
// So what is entered first in a field is looked after for some frames, and entered again where it was taken.
const FRAMES = 5;
const looked = new WeakSet(), latest = new WeakMap();
const kind = (field) => (field.type === 'checkbox' ? 'checked' : 'value');

const look = (field, left) => requestAnimationFrame(() => {
  if (!latest.has(field)) return;
  const key = kind(field);
  if (field[key] !== latest.get(field)) {
    field[key] = latest.get(field);
    for (const type of ['input', 'change']) field.dispatchEvent(new Event(type, { bubbles: true }));
  }
  if (left > 1) look(field, left - 1);
  else latest.delete(field);
});

// Our own panels set their fields themselves.
const isOurs = (field) => field.closest('.html-container') !== null;

// A slider has two fields. Gradio sets the one that nobody enters, and takes nothing away with it.
const letGo = (field) => {
  for (const other of field.closest('.block')?.querySelectorAll('input') ?? []) if (other !== field) latest.delete(other);
};

document.addEventListener('input', ({ target }) => {
  if (!target.matches?.('input:not([type="radio"], [type="file"]), textarea') || isOurs(target)) return;
  letGo(target);
  if (target.type === 'number' && !target.validity.valid) return latest.delete(target);   // `fields.js` looks after that
  if (latest.has(target) || !looked.has(target)) latest.set(target, target[kind(target)]);
  if (looked.has(target)) return;
  looked.add(target);
  look(target, FRAMES);
}, true);
