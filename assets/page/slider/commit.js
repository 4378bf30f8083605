// When the dials are committed. While a hand is on them, or on a handle that moves them, the browser only outlines what would
// change; let go, they are sent: at pointer up, at Enter or on leaving a number's box, a short rest after the last key.
import { listen } from '../lib/dom.js';

const REST = 400;   // milliseconds after a key, or after something else than a hand moved a slider
const DIALS = '#threshold, #acceptance, #balance', CARD = ':is(#slider, #more)';
const STEPS = new Set(['ArrowUp', 'ArrowDown', 'ArrowLeft', 'ArrowRight', 'PageUp', 'PageDown', 'Home', 'End']);

const isRange = (node) => node.matches?.(`${CARD} input[type="range"], .map-cell`);   // or what moves one
const isBox = (node) => node.matches?.(`${CARD} input[type="number"]`);
const moves = ({ key, target }) => (isRange(target) && STEPS.has(key)) || (isBox(target) && (key === 'ArrowUp' || key === 'ArrowDown'));

// `place()` is the slider's position as long as it has no threshold, since the models are not there yet; else -1.
export const startCommit = ({ element, trigger }, place) => {
  let moved = false, typed = false;   // since the last commit; by digits in a number's box
  let held = '', resting = 0;   // by a "pointer" or a "key"
  let shown = '';   // the run whose text is on the page

  const commit = () => {
    clearTimeout(resting);
    if (!moved) return;
    moved = typed = false;
    document.dispatchEvent(new CustomEvent('citer-commit'));
    setTimeout(() => trigger('commit', { run: shown, place: place() }));   // by then gradio has taken the value up
  };
  const rest = () => {
    clearTimeout(resting);
    resting = setTimeout(commit, REST);
  };

  listen(element, 'input', ({ target }) => {
    if (!target.closest?.(DIALS)) return;
    clearTimeout(resting);
    moved = true;
    typed = !held && target.type === 'number';
    if (!held && !typed) rest();
  });
  listen(element, 'pointerdown', ({ target }) => { if (isRange(target) || isBox(target)) held = 'pointer'; }, true);   // before it moves
  for (const end of ['pointerup', 'pointercancel']) listen(element, end, () => {
    held = '';
    if (!typed) commit();   // a click into a number that is being typed is no end of it
  });
  listen(element, 'keydown', (event) => {
    if (moves(event)) held ||= 'key';
    if (event.key === 'Enter' && isBox(event.target)) commit();
  }, true);   // before the slider moves the threshold
  listen(element, 'keyup', () => {
    if (held !== 'key') return;
    held = '';
    if (moved) rest();
  });
  listen(element, 'focusout', ({ target }) => {
    if (!target.closest?.(CARD)) return;
    if (held === 'key') held = '';
    if (!held) commit();
  });
  listen(element, 'citer-release', commit);
  listen(element, 'citer-used', () => {   // Tune has set the dials
    moved = true;
    commit();
  });
  listen(element, 'citer-opened', () => {   // the text of that setting comes by itself
    clearTimeout(resting);
    moved = false;
  });
  listen(element, 'citer-shown', ({ detail: { run, recorded } }) => { shown = recorded ? '' : run ?? ''; });   // no session has a recorded one
};
