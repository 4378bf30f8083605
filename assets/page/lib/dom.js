// Elements: found, made, filled, listened to; and the dials of the page that panels follow.
export const finder = (element) => (selector) => element.querySelector(selector);

export const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

export const makeButton = (className, text) => Object.assign(make('button', className, text), { type: 'button' });

// Tells the page of something, by Python's `tells`: names, and then as many values.
export const tell = (type, ...said) => {
  const names = said.slice(0, said.length / 2), detail = Object.fromEntries(names.map((name, i) => [name, said[names.length + i]]));
  document.dispatchEvent(new CustomEvent(type, { detail }));
};

// The same text anew would be laid out anew, and read out anew.
export const say = (node, text) => { if (node.textContent !== text) node.textContent = text; };

// A function that has `draw` run with the next frame, once however often it was asked.
export const perFrame = (draw) => {
  let asked = false;
  return () => {
    if (!asked) requestAnimationFrame(() => { asked = false; draw(); });
    asked = true;
  };
};

// Listens to the page until gradio puts another panel in this one's place.
export const listen = (element, type, heard, capture = false) => (
  document.addEventListener(type, (event) => { if (element.isConnected) heard(event); }, capture));

// The page's two dials, "threshold" and "acceptance".
export const slider = (dial = 'threshold') => document.querySelector(`#${dial} input[type="range"]`);

// As typed, where the slider's own steps are coarser; while it is dragged the box beside it is a step behind.
export const dialAt = (dial) => {
  const { value, step } = slider(dial), at = Number.parseFloat(value);
  const typed = Number.parseFloat(document.querySelector(`#${dial} input[type="number"]`)?.value);
  return Math.abs(typed - at) < 0.51 * step ? typed : at;
};

// As a hand moves it, so that everything that follows a hand follows this too. It is committed after a short rest, or at once
// with `releaseSliders` (`slider/commit.js`).
export const moveSlider = (value, dial = 'threshold') => {
  slider(dial).value = value;
  slider(dial).dispatchEvent(new Event('input', { bubbles: true }));
};

export const releaseSliders = () => document.dispatchEvent(new CustomEvent('citer-release'));

export const onSlider = (element, heard, dial = 'threshold') => listen(element, 'input', ({ target }) => {
  if (target.closest?.(`#${dial}`)) heard(Number.parseFloat(target.value));
});

// What a visitor takes away: a file, or a text in the clipboard.

export const save = (name, type, text) => {
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
};

// Whether it was copied: browsers keep the clipboard from pages that come over plain HTTP from another machine.
export const copy = async (text) => {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
};
