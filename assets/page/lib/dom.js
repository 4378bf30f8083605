// Elements, the page's own events, the two dials, and what a visitor takes away.
export const finder = (element) => (selector) => element.querySelector(selector);

export const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

export const makeButton = (className, text) => Object.assign(make('button', className, text), { type: 'button' });

// The same text is not set again: that would lay it out and read it out once more.
export const say = (node, text) => { if (node.textContent !== text) node.textContent = text; };

export const announce = (type, detail) => document.dispatchEvent(new CustomEvent(type, { detail }));

// Announces what Python's `tells` gives: first all names, then all values.
export const tell = (type, ...given) => {
  const names = given.slice(0, given.length / 2);
  announce(type, Object.fromEntries(names.map((name, i) => [name, given[names.length + i]])));
};

// A panel that gradio has replaced by another hears nothing more.
export const listen = (element, type, handle, capture = false) => (
  document.addEventListener(type, (event) => { if (element.isConnected) handle(event); }, capture));

// Returns a function that makes `draw` run in the next frame. Many calls before that frame make one run.
export const perFrame = (draw) => {
  let isDue = false;
  return () => {
    if (!isDue) requestAnimationFrame(() => { isDue = false; draw(); });
    isDue = true;
  };
};

export const slider = (dial) => document.querySelector(`#${dial} input[type="range"]`);

// A typed number may be finer than the slider's steps. While the slider is dragged, the number beside it is a step behind.
export const dialAt = (dial) => {
  const { value, step } = slider(dial), at = Number.parseFloat(value);
  const typed = Number.parseFloat(document.querySelector(`#${dial} input[type="number"]`)?.value);
  return Math.abs(typed - at) < 0.51 * step ? typed : at;
};

// Moves a dial as a hand does. `slider/commit.js` sends the value after a short rest, or at once after `releaseSliders`.
export const moveSlider = (value, dial = 'threshold') => {
  slider(dial).value = value;
  slider(dial).dispatchEvent(new Event('input', { bubbles: true }));
};

export const releaseSliders = () => announce('citer-release');

export const onSlider = (element, handle, dial = 'threshold') => listen(element, 'input', ({ target }) => {
  if (target.closest?.(`#${dial}`)) handle(Number.parseFloat(target.value));
});

// Saves a file, and returns its name, which ends with the time.
export const save = (title, extension, type, content) => {
  const name = `${title}-${new Date().toISOString().slice(0, 19).replaceAll(':', '-')}.${extension}`;
  const link = Object.assign(make('a'), { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  return name;
};

// Calls `take` with each file that is picked, also with one that was picked before this script was loaded.
export const onPick = (picker, take) => {
  const look = async () => {
    const [file] = picker.files;
    if (file) await take(file);
    picker.value = '';   // or the same file could not be picked again
  };
  picker.addEventListener('change', look);
  look();
};

// Resolves to whether it worked: over plain HTTP, browsers keep the clipboard from pages of another machine.
export const copy = async (text) => navigator.clipboard?.writeText(text).then(() => true, () => false) ?? false;
