// Tokens are pointed at by the pointer and by keys.
import { listen } from '../lib/dom.js';
import { nextOf } from './token.js';

export const startPointer = (text, { element }, show) => {
  const { box } = text;

  const pin = (index) => {
    text.pinned = index;
    text.mark('pinned', index);
    show();
  };

  // Moves the keys' place to a token, or takes it away with -1. Screen readers read it out.
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
      ArrowDown: () => nextOf(text.tokens, at, 1), ArrowUp: () => nextOf(text.tokens, at, -1) };
    if (moves[event.key]) { focusToken(moves[event.key]()); event.preventDefault(); }
    else if (event.key === 'Enter' && text.focused >= 0) togglePin();
    else if (event.key === 'Escape' && text.pinned >= 0) { pin(-1); event.preventDefault(); }   // with no card open, Escape stops the text
  });
  listen(element, 'citer-point', ({ detail: { index, pin: on } }) => {   // from the chart of the scores
    text.mark('pointed', index);
    if (on) pin(index);
  });
  element.addEventListener('citer-close', () => { pin(-1); box.focus({ preventScroll: true }); });
  listen(element, 'pointerdown', ({ target }) => {   // a click elsewhere closes the card
    if (text.pinned >= 0 && !target.closest?.('.stream-text, .token-card')) pin(-1);
  });
};
