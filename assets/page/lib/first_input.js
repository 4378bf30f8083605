// Works around gradio 6.31 (`render_previously_invisible_children`). It draws a tab or an accordion when that is first opened, and one
// frame later sets each field in it to its starting value. That would erase what a visitor has entered by then. So the first input
// into a field is watched for some frames, and entered again if it was erased.
const FRAMES = 5;
const seen = new WeakSet(), entered = new WeakMap();
const keyOf = (field) => (field.type === 'checkbox' ? 'checked' : 'value');

const watch = (field, left) => requestAnimationFrame(() => {
  if (!entered.has(field)) return;
  const key = keyOf(field);
  if (field[key] !== entered.get(field)) {
    field[key] = entered.get(field);
    for (const type of ['input', 'change']) field.dispatchEvent(new Event(type, { bubbles: true }));
  }
  if (left > 1) watch(field, left - 1);
  else entered.delete(field);
});

// Gradio sets a slider's second field to follow the first. That erases nothing, so the second field is not watched any longer.
const stopOthers = (field) => {
  for (const other of field.closest('.block')?.querySelectorAll('input') ?? []) if (other !== field) entered.delete(other);
};

document.addEventListener('input', ({ target }) => {
  // The page's own panels, which are in an .html-container, set their fields themselves.
  if (!target.matches?.('input:not([type="radio"], [type="file"]), textarea') || target.closest('.html-container')) return;
  stopOthers(target);
  if (target.type === 'number' && !target.validity.valid) return entered.delete(target);   // `fields.js` takes care of a wrong number
  if (entered.has(target) || !seen.has(target)) entered.set(target, target[keyOf(target)]);
  if (seen.has(target)) return;
  seen.add(target);
  watch(target, FRAMES);
}, true);
