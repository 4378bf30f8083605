// How many drafted tokens the LLM took back, as the button that shows them in the text.
import { counted } from '../lib/format.js';
import { TAKEN } from '../lib/threshold.js';

// Returns what draws it.
export const startTaken = (text, { element }) => {
  const toggle = element.querySelector('.taken-toggle');
  toggle.addEventListener('click', () => {
    const on = toggle.getAttribute('aria-pressed') !== 'true';
    toggle.setAttribute('aria-pressed', on);
    text.strike(on);
  });
  return () => {
    const count = text.tokens.reduce((sum, token) => sum + (token[TAKEN]?.length ?? 0), 0);
    toggle.hidden = count === 0;
    toggle.textContent = `${count} taken back`;
    toggle.title = `${counted(count, 'drafted token')} that the LLM did not keep: shows them where they stood. They are paid for.`;
  };
};
