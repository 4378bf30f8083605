// A Stop button takes the place of the button that starts a text: from the click until the server says that nothing is written.
import { announce } from './dom.js';

const STOPS = { stream: 'stop', sweep: 'stop', comparison: 'compare-stop', 'tune-panel': 'tune-stop' };
const STARTS = { generate: 'stop', 'compare-start': 'compare-stop', 'tune-run': 'tune-stop' };
const requested = new Set();   // Stop buttons of texts that were started and have no message yet
const writing = new Set();     // panels that are being written

const draw = () => {
  const shown = new Set([...requested, ...[...writing].map((panel) => STOPS[panel])]);
  for (const id of new Set(Object.values(STOPS))) document.body.classList.toggle(`has-${id}`, shown.has(id));
};

export const isWriting = () => requested.size + writing.size > 0;

document.addEventListener('click', ({ target }) => {
  const id = STARTS[target.closest?.('button')?.id];
  if (!id) return;
  requested.add(id);
  draw();
  announce('citer-start');
});
document.addEventListener('citer-refused', () => { requested.clear(); draw(); });
document.addEventListener('citer-state', ({ detail: { panel, active } }) => {
  requested.delete(STOPS[panel]);
  if (active) writing.add(panel); else writing.delete(panel);
  draw();
});
