// The keyboard, on the whole page: a link over what stands before the prompt, Enter sends a prompt and Shift+Enter breaks its
// line, Esc stops what is being written. And a double click on what starts a text is one click.
import { make } from './dom.js';

const SENDS = { '#prompt': '#generate', '#compare-prompt': '#compare-start' };
const STOPS = '#stop, #compare-stop, #tune-stop', STARTS = '#generate, #compare-start, #tune-run, .sweep-go, .map-open';

// On a telephone's keyboard Enter is the only way to a new line.
const isTouch = () => window.matchMedia('(pointer: coarse)').matches;

// A key of an input method's, which confirms a candidate or gives it up. (Safari ends the composition before it tells of the key.)
const isComposed = ({ isComposing, keyCode }) => isComposing || keyCode === 229;

const sendOrBreak = (event) => {
  if (isComposed(event)) return;
  const { type, key, target, shiftKey, repeat } = event;
  const box = key === 'Enter' && Object.keys(SENDS).find((id) => target.matches?.(`${id} textarea`));
  if (!box) return;
  event.stopImmediatePropagation();   // gradio has it the other way round
  if (shiftKey || isTouch()) return;
  event.preventDefault();
  if (!repeat && type === 'keydown') document.querySelector(SENDS[box]).click();
};
for (const type of ['keydown', 'keypress']) document.addEventListener(type, sendOrBreak, true);

document.addEventListener('keydown', (event) => {
  const { key, target, defaultPrevented } = event;
  if (key !== 'Escape' || defaultPrevented || isComposed(event)) return;
  if (target.getAttribute?.('aria-expanded') === 'true') return;   // it closes a list of choices first
  [...document.querySelectorAll(STOPS)].find((button) => button.getClientRects().length)?.click();
});

document.addEventListener('click', (event) => {
  if (event.detail > 1 && event.target.closest?.(`${STARTS}, ${STOPS}`)) event.stopImmediatePropagation();   // Stop comes in its place
}, true);

const skip = Object.assign(make('a', 'skip-link', 'Skip to the prompt'), { href: '#prompt' });
skip.addEventListener('click', (event) => {
  event.preventDefault();   // the address is a link to a text
  const prompts = [...document.querySelectorAll('#prompt textarea, #compare-prompt textarea, #tune-prompts textarea')];
  prompts.find((box) => box.getClientRects().length)?.focus();
});
document.body.prepend(skip);

// Generate and Stop stand in one place: the focus stays there when one takes the other's.
new MutationObserver(() => {
  const buttons = ['#stop', '#generate'].map((id) => document.querySelector(id)), shown = document.body.classList.contains('has-stop') ? 0 : 1;
  if (document.activeElement && document.activeElement === buttons[1 - shown]) buttons[shown].focus({ preventScroll: true });
}).observe(document.body, { attributeFilter: ['class'] });
