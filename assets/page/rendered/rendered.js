// "Rendered" shows the text with its Markdown, code and maths beside its tokens.
import { finder } from '../lib/dom.js';

const REST = 400, PART = 10;   // milliseconds between two drawings of a growing text; they take at most a tenth (1/PART) of the time

export const startRendered = (text, { element }) => {
  const find = finder(element), toggle = find('.rendered-toggle'), place = find('.stream-rendered');
  let reading = null;   // the module that reads Markdown, fetched at the first click
  let drawn = null, waiting = 0, due = 0;

  const show = async () => {
    const { words } = text, begun = performance.now();
    if (!place.hidden && words !== drawn) {
      drawn = words;
      try {
        const { rendered } = await (reading ??= import('./markdown.mjs'));
        place.replaceChildren(...await rendered(words));
        for (const block of place.querySelectorAll('pre')) block.tabIndex = 0;   // so that keys can scroll a long line
      } catch {
        reading = null;   // the next click tries again
        place.replaceChildren('This text cannot be rendered; its tokens are all there.');
      }
      due = performance.now() + Math.max(REST, PART * (performance.now() - begun));
    }
    waiting = 0;
    if (!place.hidden && text.words !== drawn) draw();
  };
  const draw = () => {
    if (place.hidden || waiting) return;
    waiting = setTimeout(show, text.over ? 0 : Math.max(0, due - performance.now()));
  };

  toggle.addEventListener('click', () => {
    place.hidden = !place.hidden;
    if (!reading) drawn = null;
    toggle.setAttribute('aria-pressed', !place.hidden);
    draw();
  });
  return draw;
};
