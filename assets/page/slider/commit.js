// When the dials are sent. While a hand is on a dial, or on a control that moves it, the browser only outlines what would change. The
// dials are sent at pointer up, at Enter, when a number's box is left, and a short rest after the last key.
import { announce, listen } from '../lib/dom.js';

const REST = 400;   // milliseconds after a key, or after a script has moved a slider
const DIALS = '#threshold, #acceptance, #balance', CARD = ':is(#slider, #more)';
const STEPS = new Set(['ArrowUp', 'ArrowDown', 'ArrowLeft', 'ArrowRight', 'PageUp', 'PageDown', 'Home', 'End']);

const isRange = (node) => node.matches?.(`${CARD} input[type="range"], .map-cell`);   // a cell of the map moves both dials
const isBox = (node) => node.matches?.(`${CARD} input[type="number"]`);
const moves = ({ key, target }) => (isRange(target) && STEPS.has(key)) || (isBox(target) && (key === 'ArrowUp' || key === 'ArrowDown'));

// `place()` is the slider's position while no models are loaded, and so no thresholds are known; -1 otherwise.
export const startCommit = ({ element, trigger }, place) => {
  let moved = false;              // since the last commit
  let typed = false;              // whether the last change was a digit in a number's box
  let held = '', resting = 0;     // "pointer" or "key" while one is down; timer
  let shown = '';                 // the run whose text is on the page

  const commit = () => {
    clearTimeout(resting);
    if (!moved) return;
    moved = typed = false;
    announce('citer-commit');
    setTimeout(() => trigger('commit', { run: shown, place: place() }));   // gradio needs until then to take up the value
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
  // Heard in the capturing phase, before the control itself moves a dial.
  listen(element, 'pointerdown', ({ target }) => { if (isRange(target) || isBox(target)) held = 'pointer'; }, true);
  for (const end of ['pointerup', 'pointercancel']) listen(element, end, () => {
    held = '';
    if (!typed) commit();   // a click into the number that is being typed does not end the typing
  });
  listen(element, 'keydown', (event) => {
    if (moves(event)) held ||= 'key';
    if (event.key === 'Enter' && isBox(event.target)) commit();
  }, true);
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
  listen(element, 'citer-opened', () => {   // the map brings the text of its setting, so nothing is to be sent
    clearTimeout(resting);
    moved = false;
  });
  listen(element, 'citer-shown', ({ detail: { run, recorded } }) => { shown = recorded ? '' : run ?? ''; });   // the server has no recorded text
};
