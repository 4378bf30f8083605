// Pointing at tokens: by pointer, by keys, and by the buttons that go to the next one of a kind.
import { AUTHOR, LLM } from '../lib/threshold.js';

// The number of the next token of the LLM's, or of the next one that an audit marked; `from` where there is none.
const nextOf = ({ tokens, message }, kind, from, step) => {
  const isThere = (i) => (kind === 'llm' ? tokens[i][AUTHOR] === LLM : message?.audit?.[kind].includes(i));
  const places = [...tokens.keys()].filter(isThere);
  return (step > 0 ? places.find((i) => i > from) : places.findLast((i) => i < from)) ?? from;
};

export const startPointer = (text, { element }, inspect) => {
  const { box } = text;

  const pin = (index) => {
    text.pinned = index;
    text.mark('pinned', index);
    inspect(text.current);
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
    text.hovered = -1;
    text.spans[text.focused].scrollIntoView({ block: 'nearest' });
    inspect(text.focused);
  };
  const togglePin = () => pin(text.focused === text.pinned ? -1 : text.focused);

  const indexAt = (event) => Number(event.target.closest('.t')?.dataset.i ?? -1);
  const hover = (index) => { text.hovered = index; inspect(text.current); };

  box.addEventListener('pointerover', (event) => hover(indexAt(event)));
  box.addEventListener('pointerleave', () => hover(-1));
  box.addEventListener('click', (event) => {
    if (indexAt(event) < 0) return;
    focusToken(indexAt(event));
    togglePin();
  });
  box.addEventListener('blur', () => { point(-1); inspect(text.current); });
  box.addEventListener('cut', () => { if (text.focused < 0) point(-1); });
  box.addEventListener('keydown', (event) => {
    const at = text.focused >= 0 ? text.focused : text.pinned;
    const moves = { ArrowRight: () => at + 1, ArrowLeft: () => at - 1, Home: () => 0, End: () => text.spans.length - 1,
      ArrowDown: () => nextOf(text, 'llm', at, 1), ArrowUp: () => nextOf(text, 'llm', at, -1) };
    if (moves[event.key]) { focusToken(moves[event.key]()); event.preventDefault(); }
    else if (event.key === 'Enter' && text.focused >= 0) togglePin();
    else if (event.key === 'Escape' && text.pinned >= 0) { pin(-1); event.preventDefault(); }   // where none is pinned it stops the text
  });
  for (const button of element.querySelectorAll('[data-jump]')) button.addEventListener('click', () => {
    const step = Number(button.dataset.jump), from = text.pinned >= 0 ? text.pinned : step > 0 ? -1 : text.tokens.length;
    const target = nextOf(text, button.closest('[data-kind]').dataset.kind, from, step);
    if (!text.spans[target]) return;
    pin(target);
    inspect(target);
    text.spans[target].scrollIntoView({ block: 'nearest' });
  });
};
