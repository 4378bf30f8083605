// The page's keyboard: a link to skip to the prompt, Enter sends a prompt, Shift+Enter breaks its line, Esc closes More or
// the map from within and else stops what is being written. A double click on a button that starts a text counts as one click.
import { make } from './dom.js';

const SENDS = { '#prompt': '#generate', '#compare-prompt': '#compare-start' };
const STOPS = '#stop, #compare-stop, #tune-stop', STARTS = '#generate, #compare-start, #tune-run, .sweep-go, .map-open';

// On a telephone's keyboard Enter is the only way to a new line.
const isTouch = () => window.matchMedia('(pointer: coarse)').matches;

// An input method uses Enter and Esc to confirm or drop a candidate. Safari ends the composition before the key event; it sends 229.
const isComposed = ({ isComposing, keyCode }) => isComposing || keyCode === 229;

const sendOrBreak = (event) => {
  if (isComposed(event)) return;
  const { type, key, target, shiftKey, repeat } = event;
  if (key === 'Enter' && shiftKey && target.matches?.('#tune-prompts textarea')) return event.stopImmediatePropagation();
  const box = key === 'Enter' && Object.keys(SENDS).find((id) => target.matches?.(`${id} textarea`));
  if (!box) return;
  event.stopImmediatePropagation();   // gradio sends at Shift+Enter and breaks the line at Enter
  if (shiftKey || isTouch()) return;
  event.preventDefault();
  if (!repeat && type === 'keydown') document.querySelector(SENDS[box]).click();
};
for (const type of ['keydown', 'keypress']) document.addEventListener(type, sendOrBreak, true);

document.addEventListener('keydown', (event) => {
  const { key, target, defaultPrevented } = event;
  if (key !== 'Escape' || defaultPrevented || isComposed(event)) return;
  const opener = document.querySelector(':is(.more-open, .map-open)[aria-expanded="true"]'), isIn = target === opener || target.closest?.('#more, #sweep');
  if (target !== opener && target.getAttribute?.('aria-expanded') === 'true') return;   // here Esc closes a list of choices
  if (opener && isIn) return opener.click();
  [...document.querySelectorAll(STOPS)].find((button) => button.getClientRects().length)?.click();
});

document.addEventListener('click', (event) => {   // after the first click Stop is under the pointer
  if (event.detail > 1 && event.target.closest?.(`${STARTS}, ${STOPS}`)) event.stopImmediatePropagation();
}, true);

const skip = Object.assign(make('a', 'skip-link', 'Skip to the prompt'), { href: '#prompt' });
skip.addEventListener('click', (event) => {
  event.preventDefault();   // the part after # may hold a text
  const prompts = [...document.querySelectorAll('#prompt textarea, #compare-prompt textarea, #tune-prompts textarea, .worked')];
  prompts.find((box) => box.getClientRects().length)?.focus();
});
document.body.prepend(skip);

// Generate and Stop take each other's place. The focus moves from the hidden one to the shown one.
new MutationObserver(() => {
  const buttons = ['#stop', '#generate'].map((id) => document.querySelector(id)), shown = document.body.classList.contains('has-stop') ? 0 : 1;
  if (document.activeElement && document.activeElement === buttons[1 - shown]) buttons[shown].focus({ preventScroll: true });
}).observe(document.body, { attributeFilter: ['class'] });
