// The text with its Markdown, code and maths, beside its tokens, for who asks for it.
import { finder } from '../lib/dom.js';
import { TEXT } from '../lib/threshold.js';

const REST = 400, PART = 10;   // milliseconds between two drawings of a text that grows, and at most a tenth of the time

// Returns what draws it.
export const startRendered = (text, { element }) => {
  const find = finder(element), toggle = find('.rendered-toggle'), place = find('.stream-rendered');
  let reading = null, drawn = null, waiting = 0, due = 0;   // what reads Markdown is fetched for who asks first

  const show = async () => {
    const words = text.tokens.map((token) => token[TEXT]).join(''), begun = performance.now();
    if (!place.hidden && words !== drawn) {
      drawn = words;
      try {
        const { rendered } = await (reading ??= import('./markdown.mjs'));
        place.replaceChildren(...await rendered(words));
        for (const block of place.querySelectorAll('pre')) block.tabIndex = 0;   // a long line is scrolled by keys, too
      } catch {
        reading = null;   // the script may come the next time
        place.replaceChildren('This text cannot be rendered; its tokens are all there.');
      }
      due = performance.now() + Math.max(REST, PART * (performance.now() - begun));
    }
    waiting = 0;
    if (!place.hidden && text.tokens.map((token) => token[TEXT]).join('') !== drawn) draw();
  };
  const draw = () => {
    if (place.hidden || waiting) return;
    waiting = setTimeout(show, text.over ? 0 : Math.max(0, due - performance.now()));
  };

  toggle.addEventListener('click', () => {
    place.hidden = !place.hidden;
    if (!reading) drawn = null;   // it failed: asked for again, it is tried again
    toggle.setAttribute('aria-pressed', !place.hidden);
    draw();
  });
  return draw;
};
