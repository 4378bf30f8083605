// Pointing at tokens, by pointer and by keys.
import { listen } from '../lib/dom.js';
import { AUTHOR, LLM } from '../lib/threshold.js';

// The number of the next token of the LLM's in a direction; `from` where there is none.
const nextOf = ({ tokens }, from, step) => {
  const places = [...tokens.keys()].filter((i) => tokens[i][AUTHOR] === LLM);
  return (step > 0 ? places.find((i) => i > from) : places.findLast((i) => i < from)) ?? from;
};

// `show` shows the card of the pinned token, or none.
export const startPointer = (text, { element }, show) => {
  const { box } = text;

  const pin = (index) => {
    text.pinned = index;
    text.mark('pinned', index);
    show();
  };

  // What the keys are at, also for those who hear it; nothing where they are nowhere.
  const point = (index) => {
    text.focused = index;
    text.mark('focused', index);
    box.querySelector('[id="focused-token"]')?.removeAttribute('id');
    if (index < 0) return box.removeAttribute('aria-activedescendant');
    text.spans[index].id = 'focused-token';
    box.setAttribute('aria-activedescendant', 'focused-token');
  };

  const focusToken = (index) => {
    if (!text.spans.length) return;
    point(Math.max(0, Math.min(text.spans.length - 1, index)));
    text.spans[text.focused].scrollIntoView({ block: 'nearest' });
    if (text.pinned >= 0) pin(text.focused);   // an open card follows the keys
  };
  const togglePin = () => pin(text.focused === text.pinned ? -1 : text.focused);

  const indexAt = (event) => Number(event.target.closest('.t')?.dataset.i ?? -1);

  box.addEventListener('click', (event) => {
    if (indexAt(event) < 0) return;
    point(indexAt(event));
    togglePin();
  });
  box.addEventListener('blur', () => point(-1));
  box.addEventListener('cut', () => { if (text.focused < 0) point(-1); });
  box.addEventListener('keydown', (event) => {
    const at = text.focused >= 0 ? text.focused : text.pinned;
    const moves = { ArrowRight: () => at + 1, ArrowLeft: () => at - 1, Home: () => 0, End: () => text.spans.length - 1,
      ArrowDown: () => nextOf(text, at, 1), ArrowUp: () => nextOf(text, at, -1) };
    if (moves[event.key]) { focusToken(moves[event.key]()); event.preventDefault(); }
    else if (event.key === 'Enter' && text.focused >= 0) togglePin();
    else if (event.key === 'Escape' && text.pinned >= 0) { pin(-1); event.preventDefault(); }   // where none is pinned it stops the text
  });
  listen(element, 'citer-point', ({ detail: { index, pin: on } }) => {   // in the chart of the scores
    text.mark('pointed', index);
    if (on) pin(index);
  });
  element.addEventListener('citer-close', () => { pin(-1); box.focus({ preventScroll: true }); });
  // Anywhere else on the page the card closes.
  listen(element, 'pointerdown', ({ target }) => {
    if (text.pinned >= 0 && !target.closest?.('.stream-text, .token-card')) pin(-1);
  });
};
